/// Mean, median, deviation and percentiles as numpy gives them; all 0 for no values.
struct Statistics: Hashable, Sendable {
    let mean: Double
    let median: Double
    /// Of the whole population: divided by the count.
    let deviation: Double
    private let sorted: [Double]

    init(_ values: [Double]) {
        sorted = values.sorted()
        guard !values.isEmpty else {
            mean = 0
            median = 0
            deviation = 0
            return
        }
        let count = Double(values.count)
        let mean = values.reduce(0, +) / count
        self.mean = mean
        deviation =
            (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count).squareRoot()
        let middle = values.count / 2
        median = values.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// Linear interpolation between the closest ranks (numpy's default; Hyndman and Fan, "Sample
    /// Quantiles in Statistical Packages", 1996, definition 7).
    func percentile(_ percent: Double) -> Double {
        precondition((0...100).contains(percent), "percentile \(percent)")
        guard let last = sorted.indices.last else { return 0 }
        let position = Double(last) * percent / 100
        let lower = Int(position)
        let upper = min(lower + 1, last)
        let part = position - Double(lower)
        let gap = sorted[upper] - sorted[lower]
        // From the nearer end, so that both ends are met exactly.
        return part < 0.5 ? sorted[lower] + gap * part : sorted[upper] - gap * (1 - part)
    }
}
