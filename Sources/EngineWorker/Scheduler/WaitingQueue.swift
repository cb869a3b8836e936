/// Sequences that wait for admission, best first: lowest priority value, then earliest arrival.
///
/// An indexed binary heap: push, pop and the removal of any sequence are O(log n). A preempted
/// sequence keeps its arrival, which is earlier than that of everything admitted after it, so
/// "to the front of the queue" needs no case of its own. Arrivals are unique; the order is total.
struct WaitingQueue: Sendable {
    struct Key: Hashable, Comparable, Sendable {
        /// Lower is better.
        let priority: Int32
        /// Count of sequences submitted before.
        let arrival: UInt64

        static func < (left: Key, right: Key) -> Bool {
            (left.priority, left.arrival) < (right.priority, right.arrival)
        }
    }

    private struct Node: Sendable {
        let key: Key
        let sequence: SequenceID
    }

    private var heap: [Node] = []
    /// Place in `heap`; looked up, never iterated.
    private var places: [SequenceID: Int] = [:]

    var count: Int { heap.count }
    var isEmpty: Bool { heap.isEmpty }
    /// The sequence to be admitted next.
    var first: SequenceID? { heap.first?.sequence }
    /// All of them, in no stated order.
    var sequences: [SequenceID] { heap.map(\.sequence) }

    mutating func insert(_ sequence: SequenceID, key: Key) {
        precondition(places[sequence] == nil, "sequence \(sequence) waits already")
        heap.append(Node(key: key, sequence: sequence))
        places[sequence] = heap.count - 1
        rise(from: heap.count - 1)
    }

    /// Whether it waited.
    @discardableResult
    mutating func remove(_ sequence: SequenceID) -> Bool {
        guard let place = places.removeValue(forKey: sequence) else { return false }
        let last = heap.removeLast()
        if place < heap.count {
            heap[place] = last
            places[last.sequence] = place
            rise(from: place)
            sink(from: place)
        }
        return true
    }

    private mutating func rise(from start: Int) {
        var place = start
        while place > 0 {
            let parent = (place - 1) / 2
            guard heap[place].key < heap[parent].key else { return }
            exchange(place, parent)
            place = parent
        }
    }

    private mutating func sink(from start: Int) {
        var place = start
        while true {
            var best = place
            for child in (2 * place + 1)...(2 * place + 2)
            where child < heap.count && heap[child].key < heap[best].key {
                best = child
            }
            guard best != place else { return }
            exchange(place, best)
            place = best
        }
    }

    private mutating func exchange(_ left: Int, _ right: Int) {
        heap.swapAt(left, right)
        places[heap[left].sequence] = left
        places[heap[right].sequence] = right
    }

    /// Traps where the heap and its index disagree.
    func checkInvariants() {
        precondition(places.count == heap.count, "\(places.count) places, \(heap.count) nodes")
        for (place, node) in heap.enumerated() {
            precondition(places[node.sequence] == place, "\(node.sequence) is not at \(place)")
            let parent = heap[max(0, (place - 1) / 2)]
            precondition(!(node.key < parent.key), "node \(place) is better than its parent")
        }
    }
}
