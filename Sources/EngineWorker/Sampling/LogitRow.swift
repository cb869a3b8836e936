internal import CKernels

/// A row of values with the largest of every block, so that a pass reads only the blocks that
/// matter to it. It owns no memory: the sampler lends it.
///
/// - `values`: `[count]`, read only.
/// - `maxima`: `[blockCount(count)]`, written by ``scan()``, which comes before all else.
struct LogitRow {
    typealias Passes = UnsafePointer<ck_sampling>

    static let blockSize = Int(CK_SAMPLING_BLOCK)
    static let thresholdCount = Int(CK_SAMPLING_THRESHOLDS)

    let values: UnsafePointer<Float>
    let count: Int
    let maxima: UnsafeMutablePointer<Float>
    let passes: Passes

    static func blockCount(_ count: Int) -> Int { (count + blockSize - 1) / blockSize }
    var blockCount: Int { Self.blockCount(count) }

    @inline(__always)
    subscript(id: Int32) -> Float { values[Int(id)] }

    /// Returns the first index whose value is NaN or +infinity, if any.
    func scan() -> Int32? {
        let bad = passes.pointee.scan(maxima, values, count)
        return bad < count ? Int32(bad) : nil
    }

    /// The largest value; -infinity where there is none.
    var largest: Float {
        var largest = -Float.infinity
        for block in 0..<blockCount where maxima[block] > largest { largest = maxima[block] }
        return largest
    }

    /// The first index of the largest value.
    var firstLargest: Int32 {
        let largest = largest
        for block in 0..<blockCount where maxima[block] == largest {
            for index in indices(ofBlock: block) where values[index] == largest {
                return Int32(index)
            }
        }
        return 0
    }

    func indices(ofBlock block: Int) -> Range<Int> {
        let start = block * Self.blockSize
        return start..<min(start + Self.blockSize, count)
    }

    /// Sum of e to the (value - largest); see ck_sampling.h.
    func sumExponentials(largest: Float) -> Double { passes.pointee.sum(values, count, largest) }

    func countAbove(_ threshold: Float) -> Int {
        passes.pointee.count_above(values, maxima, count, threshold)
    }

    /// Lists the ids of values in `low ..< high`, in rising order; returns how many.
    func gather(
        from low: Float, below high: Float, into ids: UnsafeMutableBufferPointer<Int32>
    ) -> Int {
        precondition(ids.count >= count, "room for \(ids.count) of \(count) ids")
        guard let base = ids.baseAddress else { return 0 }
        return passes.pointee.gather(base, values, maxima, count, low, high)
    }

    /// Lists at least the `wanted` largest of the values from `floor` on, or all of these where
    /// they are fewer; returns how many.
    func gatherLargest(
        _ wanted: Int, floor: Float, into ids: UnsafeMutableBufferPointer<Int32>
    ) -> Int {
        gather(from: max(floor, boundBelow(largest: wanted, ids)), below: .infinity, into: ids)
    }

    /// A value that at least `wanted` values reach, if possible not many more.
    private func boundBelow(
        largest wanted: Int, _ scratch: UnsafeMutableBufferPointer<Int32>
    ) -> Float {
        guard wanted < count else { return -.infinity }
        if wanted <= blockCount {
            // So many blocks have a value as large as their maximum.
            var heap = CandidateHeap(ids: scratch, values: maxima)
            for block in 0..<Int32(blockCount) { heap.offer(block, limit: wanted) }
            return maxima[Int(heap.worst)]
        }
        // Halves the range of floats, in which `low` always has enough above it.
        var (low, high) = (-Float.infinity, largest)
        while low.nextUp < high {
            let middle = Temperature.middle(max(low, -.greatestFiniteMagnitude), high)
            guard middle > low else { break }
            let above = countAbove(middle)
            if above < wanted {
                high = middle
            } else {
                low = middle
                if above <= wanted + wanted / 4 { break }
            }
        }
        return low
    }

    /// Weights of the values at or above each threshold, summed; see ck_sampling.h.
    func masses(
        _ masses: UnsafeMutablePointer<Double>, thresholds: UnsafePointer<Float>,
        largest: Float, factor: Float
    ) {
        passes.pointee.masses(masses, values, maxima, count, largest, factor, thresholds)
    }
}

/// The division by the temperature, and its inverse on thresholds.
///
/// Division is rounded, but never turns an order round. So a threshold on quotients is one on
/// logits, and no pass needs the quotients of a row.
struct Temperature {
    let divisor: Float

    @inline(__always)
    func callAsFunction(_ logit: Float) -> Float { logit / divisor }

    /// The reciprocal, kept finite.
    var factor: Float { min(1 / divisor, .greatestFiniteMagnitude) }

    /// The least finite logit whose quotient is at least `quotient`, which that of the largest
    /// float must be.
    func leastLogit(_ quotient: Float) -> Float {
        if divisor == 1 { return max(quotient, -.greatestFiniteMagnitude) }
        var low = Self.order(-.greatestFiniteMagnitude)
        var high = Self.order(.greatestFiniteMagnitude)
        while low < high {
            let middle = (low + high) >> 1
            if self(Self.float(middle)) >= quotient {
                high = middle
            } else {
                low = middle + 1
            }
        }
        return Self.float(low)
    }

    /// The float half way from `low` to `high`, counted in floats.
    static func middle(_ low: Float, _ high: Float) -> Float {
        float((order(low) + order(high)) >> 1)
    }

    /// Whole numbers in the order of the floats.
    private static func order(_ float: Float) -> Int {
        let bits = Int32(bitPattern: float.bitPattern)
        return Int(bits < 0 ? bits ^ Int32.max : bits)
    }

    private static func float(_ order: Int) -> Float {
        let bits = Int32(truncatingIfNeeded: order)
        return Float(bitPattern: UInt32(bitPattern: bits < 0 ? bits ^ Int32.max : bits))
    }
}
