import TestSupport

/// Sequences with Zipf-distributed lengths that arrive at random.
///
/// A prompt has `8 k` tokens with a probability proportional to `1/k` for k in 1...256, so a
/// third of all prompts has at most 40 tokens, and half of all prompt tokens are in those above
/// 1024. An output has `2 k` tokens, k in 1...128, likewise. Arrivals are a Poisson process.
struct BalanceTrace {
    struct Arrival {
        let at: Int
        let promptTokens: Int
        let outputTokens: Int
    }

    static let promptUnit = 8
    static let promptUnits = 256
    static let outputUnit = 2
    static let outputUnits = 128

    let arrivals: [Arrival]

    /// - Parameters:
    ///   - rowsPerTime: rows of all ranks that arrive in a unit of time: tokens of prompts, and one
    ///     for each token of an output.
    init(until end: Int, rowsPerTime: Double, random: inout SeededGenerator) {
        let prompts = Self.cumulative(Self.promptUnits)
        let outputs = Self.cumulative(Self.outputUnits)
        let meanRows =
            Double(Self.promptUnit) * Self.mean(prompts)
            + Double(Self.outputUnit) * Self.mean(outputs)
        let rate = rowsPerTime / meanRows
        var arrivals: [Arrival] = []
        var time = 0.0
        while true {
            time += -Self.logarithm(Double.random(in: 0.000_001..<1, using: &random)) / rate
            if time >= Double(end) { break }
            arrivals.append(
                Arrival(
                    at: Int(time),
                    promptTokens: Self.promptUnit * Self.draw(prompts, &random),
                    outputTokens: Self.outputUnit * Self.draw(outputs, &random)))
        }
        self.arrivals = arrivals
    }

    /// Sums of `1/k`.
    private static func cumulative(_ count: Int) -> [Double] {
        var sum = 0.0
        return (1...count).map {
            sum += 1 / Double($0)
            return sum
        }
    }

    private static func mean(_ cumulative: [Double]) -> Double {
        Double(cumulative.count) / (cumulative.last ?? 1)
    }

    private static func draw(_ cumulative: [Double], _ random: inout SeededGenerator) -> Int {
        let wanted = Double.random(in: 0..<(cumulative.last ?? 1), using: &random)
        var (low, high) = (0, cumulative.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if cumulative[middle] > wanted { high = middle } else { low = middle + 1 }
        }
        return low + 1
    }

    /// Natural logarithm of a number in 0..<1, the same on every machine: `log x = 2 artanh y`,
    /// and powers of two by themselves.
    private static func logarithm(_ number: Double) -> Double {
        let exponent = number.exponent
        let significand = number.significand
        let ratio = (significand - 1) / (significand + 1)
        var (term, sum, power) = (ratio, 0.0, 1.0)
        for _ in 0..<30 {
            sum += term / power
            term *= ratio * ratio
            power += 2
        }
        return 2 * sum + Double(exponent) * 0.693_147_180_559_945_3
    }
}
