internal import Protocol

/// Which tokens of a row min_p, top_k and top_p leave: those from a least logit on, and of those
/// that tie with the least one only the first few.
///
/// Nothing is sorted and no row of probabilities is written. top_k looks for the k-th among the
/// blocks whose maximum is large enough; top_p narrows the range in which the mass is reached by
/// summing weights over eight thresholds at a time, and puts the rest, a few hundred, in order.
struct TokenCut {
    /// In logits.
    private(set) var least = -Float.greatestFiniteMagnitude
    /// After the temperature. NaN where all tokens from `least` on stay.
    private var tie = Float.nan
    private var lastTied = Int32.max

    let row: LogitRow
    let temperature: Temperature
    /// The largest of the row, after the temperature; finite.
    let largest: Float

    init(row: LogitRow, temperature: Temperature, largest: Float) {
        self.row = row
        self.temperature = temperature
        self.largest = largest
        // What the temperature carries to -infinity has no weight.
        least = temperature.leastLogit(-.greatestFiniteMagnitude)
    }

    @inline(__always)
    func keeps(_ id: Int32) -> Bool {
        let logit = row[id]
        return logit >= least && (temperature(logit) != tie || id <= lastTied)
    }

    /// The weight of a token, that of the likeliest being 1.
    @inline(__always)
    func weight(_ logit: Float) -> Double {
        ElementaryFunctions.exponential(Double(temperature(logit)) - Double(largest))
    }

    /// min_p: drops the ids whose value is below `largest + ln minP`. (A subnormal one drops
    /// nothing that could ever be drawn, so it counts as 0.)
    mutating func keepLikely(minP: Float) {
        guard minP >= Float.leastNormalMagnitude else { return }
        let threshold = largest + Float(ElementaryFunctions.logarithm(Double(minP)))
        least = max(least, temperature.leastLogit(threshold))
    }

    /// top_k: drops the ids whose value is below the k-th largest; ties with it stay.
    ///
    /// `ids` and `selection`: scratch, `[row.count]` each.
    mutating func keepTop(
        _ topK: Int, ids: UnsafeMutableBufferPointer<Int32>,
        selection: UnsafeMutableBufferPointer<Int32>
    ) {
        guard topK > 0, topK < row.count else { return }
        let count = row.gatherLargest(topK, floor: least, into: ids)
        guard count >= topK else { return }
        var heap = CandidateHeap(ids: selection, values: row.values)
        for place in 0..<count { heap.offer(ids[place], limit: topK) }
        least = max(least, temperature.leastLogit(temperature(row[heap.worst])))
    }

    // MARK: top_p

    /// Where top_p's cut lies: between two logits, neither of which parts a tie.
    private struct Bracket {
        var low: Float
        var high: Float
        /// Weight of what is above the range, and of that with the range.
        var above: Double
        var reached: Double

        /// Goes over to the thresholds between which `goal` is reached.
        mutating func narrow(goal: Double, thresholds: [Float], masses: [Double]) {
            let place = masses.firstIndex { $0 >= goal } ?? masses.count - 1
            low = thresholds[place]
            reached = masses[place]
            if place > 0 && thresholds[place - 1] < high {
                high = thresholds[place - 1]
                above = masses[place - 1]
            }
        }
    }

    private enum Nucleus {
        /// First thresholds: so far below the largest.
        static let depths: [Float] = [2, 5, 9]
        /// So far below the largest, a weight is 0 in single precision.
        static let depthMax: Float = 90
        /// Ids that are put in order at once.
        static let orderedCount = 1024.0
        /// Each takes three bits from the range, so that no range of floats needs more.
        static let narrowingCountMax = 12
    }

    /// top_p: keeps the most likely ids, as many as are needed to reach `topP` of the mass; at
    /// least 1.
    ///
    /// An id stays if those before it, most likely first, weigh less than the mass: vLLM's rule
    /// read from the other end. Weights are summed in single precision: relative error 2e-6.
    ///
    /// `ids`: scratch, `[row.count]`.
    mutating func keepNucleus(_ topP: Float, ids: UnsafeMutableBufferPointer<Int32>) {
        guard topP < 1 else { return }
        var thresholds = [Float](repeating: .infinity, count: LogitRow.thresholdCount)
        let first = thresholds.count - 1 - Nucleus.depths.count
        for (place, depth) in (Nucleus.depths + [Nucleus.depthMax]).enumerated() {
            thresholds[first + place] = max(least, temperature.leastLogit(largest - depth))
        }
        var masses = weigh(thresholds)
        let goal = Double(topP) * (masses.last ?? 0)
        var range = Bracket(low: least, high: .infinity, above: 0, reached: 0)
        range.narrow(goal: goal, thresholds: thresholds, masses: masses)
        // All ids together weigh less below it than top_p drops.
        let dropped = (1 - Double(topP)) * (masses.last ?? 0) / Double(row.count)
        let floor = temperature.leastLogit(
            largest + Float(ElementaryFunctions.logarithm(dropped) - 0.1))
        if floor > range.low && floor < range.high { range.low = floor }
        for _ in 0..<Nucleus.narrowingCountMax {
            guard (range.reached - range.above) / weight(range.low) > Nucleus.orderedCount else {
                break
            }
            let low = temperature(range.low)
            let high = min(largest.nextUp, temperature(range.high))
            guard low.nextUp < high else { break }
            for place in thresholds.indices {
                let part = Float(thresholds.count - 1 - place) / Float(thresholds.count)
                let quotient = low + (high - low) * part
                thresholds[place] = max(range.low, temperature.leastLogit(quotient))
            }
            masses = weigh(thresholds)
            range.narrow(goal: goal, thresholds: thresholds, masses: masses)
        }
        cutInside(range, goal: goal, ids: ids)
    }

    private func weigh(_ thresholds: [Float]) -> [Double] {
        [Double](unsafeUninitializedCapacity: thresholds.count) { masses, count in
            guard let base = masses.baseAddress else { return }
            row.masses(
                base, thresholds: thresholds, largest: row.largest, factor: temperature.factor)
            count = thresholds.count
        }
    }

    /// Takes the ids of `range` in order until `goal` is reached.
    private mutating func cutInside(
        _ range: Bracket, goal: Double, ids: UnsafeMutableBufferPointer<Int32>
    ) {
        let count = row.gather(from: range.low, below: range.high, into: ids)
        guard count > 0 else { return }
        var last = ids[0]
        var reached = range.above
        let tie = temperature(row[ids[0]])
        if ids[0..<count].allSatisfy({ temperature(row[$0]) == tie }) {
            // In order already.
            var place = 0
            let weight = weight(row[last])
            while place < count && reached < goal {
                reached += weight
                last = ids[place]
                place += 1
            }
        } else {
            var heap = CandidateHeap(ids: ids, values: row.values, divisor: temperature.divisor)
            heap.makeBestFirst(count: count)
            repeat {
                last = heap.takeBest()
                reached += weight(row[last])
            } while heap.count > 0 && reached < goal
        }
        self.tie = temperature(row[last])
        lastTied = last
        least = max(least, temperature.leastLogit(self.tie))
    }
}
