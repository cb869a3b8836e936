/// Ids in heap order over their values: larger value first, lower id first on a tie.
///
/// The order is total, so what comes out is a function of the values alone. It owns no memory: the
/// sampler lends it scratch.
///
/// - `ids`: `[capacity]` Int32, the first `count` in use; must not overlap `values`.
/// - `values`: indexed by id; no NaN.
struct CandidateHeap {
    let ids: UnsafeMutableBufferPointer<Int32>
    let values: UnsafePointer<Float>
    /// What values are divided by before they are compared.
    let divisor: Float
    private(set) var count = 0

    init(
        ids: UnsafeMutableBufferPointer<Int32>, values: UnsafePointer<Float>, divisor: Float = 1
    ) {
        self.ids = ids
        self.values = values
        self.divisor = divisor
    }

    @inline(__always)
    func precedes(_ left: Int32, _ right: Int32) -> Bool {
        let (a, b) = (values[Int(left)] / divisor, values[Int(right)] / divisor)
        return a > b || (a == b && left < right)
    }

    // MARK: The best few of many

    /// Keeps the best `limit` of the ids offered, with the worst of them at the root.
    /// O(log limit), and one comparison where `id` is not among them.
    @inline(__always)
    mutating func offer(_ id: Int32, limit: Int) {
        if count < limit {
            ids[count] = id
            count += 1
            riseWorst(from: count - 1)
        } else if precedes(id, ids[0]) {
            ids[0] = id
            sink(from: 0, count: count) { heap, left, right in heap.precedes(right, left) }
        }
    }

    /// The worst of those kept by ``offer(_:limit:)``.
    var worst: Int32 { ids[0] }

    /// Turns what ``offer(_:limit:)`` kept into a list, best first.
    func sortBestFirst() {
        var end = count
        while end > 1 {
            end -= 1
            ids.swapAt(0, end)
            sink(from: 0, count: end) { heap, left, right in heap.precedes(right, left) }
        }
    }

    private func riseWorst(from start: Int) {
        var place = start
        while place > 0 {
            let parent = (place - 1) / 2
            guard precedes(ids[parent], ids[place]) else { return }
            ids.swapAt(place, parent)
            place = parent
        }
    }

    // MARK: All, best first, as far as wanted

    /// Orders the first `count` ids with the best at the root; O(count).
    mutating func makeBestFirst(count: Int) {
        precondition(count <= ids.count, "\(count) ids in \(ids.count) places")
        self.count = count
        var place = count / 2
        while place > 0 {
            place -= 1
            sink(from: place, count: count) { heap, left, right in heap.precedes(left, right) }
        }
    }

    /// Takes the best id out, into the place that becomes free at the end; O(log count).
    mutating func takeBest() -> Int32 {
        precondition(count > 0, "an empty heap")
        count -= 1
        ids.swapAt(0, count)
        sink(from: 0, count: count) { heap, left, right in heap.precedes(left, right) }
        return ids[count]
    }

    @inline(__always)
    private func sink(
        from start: Int,
        count: Int,
        above: (CandidateHeap, Int32, Int32) -> Bool
    ) {
        var place = start
        while 2 * place + 1 < count {
            var child = 2 * place + 1
            if child + 1 < count, above(self, ids[child + 1], ids[child]) { child += 1 }
            guard above(self, ids[child], ids[place]) else { return }
            ids.swapAt(place, child)
            place = child
        }
    }
}
