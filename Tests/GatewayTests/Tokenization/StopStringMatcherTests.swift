import Testing

@testable import Gateway

@Suite struct StopStringMatcherTests {
    private struct Result: Equatable {
        var text = ""
        var stopString: String?
    }

    /// Tries every end in turn, and at each end every stop string in order.
    private func reference(_ text: String, _ stops: [String], includes: Bool) -> Result {
        let bytes = Array(text.utf8)
        for end in 0...bytes.count {
            for stop in stops where bytes[..<end].suffix(stop.utf8.count).elementsEqual(stop.utf8) {
                let cut = includes ? end : end - stop.utf8.count
                return Result(
                    text: String(decoding: bytes[..<cut], as: UTF8.self), stopString: stop)
            }
        }
        return Result(text: text)
    }

    private func run(_ parts: [String], _ stops: [String], includes: Bool) -> Result {
        var matcher = StopStringMatcher(stopStrings: stops, includesStopString: includes)
        var result = Result()
        for part in parts {
            let output = matcher.append(part)
            result.text += output.text
            if result.stopString == nil { result.stopString = output.stopString }
        }
        result.text += matcher.finish()
        #expect(matcher.matchedStopString == result.stopString)
        return result
    }

    @Test func randomTextsEndAsTheReferenceSays() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("randomTextsEndAsTheReferenceSays: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let alphabet: [Unicode.Scalar] = ["a", "b", "é", "\u{301}", "的"]
        func text(_ counts: ClosedRange<Int>) -> String {
            var text = ""
            for _ in 0..<Int.random(in: counts, using: &generator) {
                text.unicodeScalars.append(alphabet.randomElement(using: &generator) ?? "a")
            }
            return text
        }
        for _ in 0..<2000 {
            let stops = (0..<Int.random(in: 0...3, using: &generator)).map { _ in text(1...5) }
            let parts = (0..<Int.random(in: 0...12, using: &generator)).map { _ in text(0...4) }
            let includes = Bool.random(using: &generator)
            let whole = parts.reduce(into: "") {
                $0.unicodeScalars.append(contentsOf: $1.unicodeScalars)
            }
            let found = run(parts, stops, includes: includes)
            let expected = reference(whole, stops, includes: includes)
            #expect(
                found.text.utf8.elementsEqual(expected.text.utf8)
                    && found.stopString == expected.stopString,
                "seed \(seed): \(parts) \(stops) \(includes)")
        }
    }

    @Test func onlyWhatMayBelongToAStopStringIsHeldBack() {
        var matcher = StopStringMatcher(stopStrings: ["\n\nQ:", "END"], includesStopString: false)
        #expect(matcher.append("answer\n") == .init(text: "answer", stopString: nil))
        #expect(matcher.append("\n") == .init(text: "", stopString: nil))
        #expect(matcher.append("\n") == .init(text: "\n", stopString: nil))
        #expect(matcher.append("E") == .init(text: "\n\n", stopString: nil))
        #expect(matcher.append("x") == .init(text: "Ex", stopString: nil))
        #expect(matcher.append("EN") == .init(text: "", stopString: nil))
        #expect(matcher.finish() == "EN")
    }

    @Test func aMatchIsCutBeforeOrAfter() {
        #expect(run(["abST", "OPcd"], ["STOP"], includes: false).text == "ab")
        #expect(run(["abST", "OPcd"], ["STOP"], includes: true).text == "abSTOP")
        var matcher = StopStringMatcher(stopStrings: ["STOP"], includesStopString: false)
        #expect(matcher.append("STOPx") == .init(text: "", stopString: "STOP"))
        #expect(matcher.append("more") == .init(text: "", stopString: "STOP"))
        #expect(matcher.finish() == "")
    }

    @Test func stopStringsAreTextWhileTheRequestMayNotStop() {
        var matcher = StopStringMatcher(stopStrings: ["aba"], includesStopString: false)
        #expect(matcher.append("aba", mayStop: false) == .init(text: "ab", stopString: nil))
        #expect(matcher.append("ba") == .init(text: "", stopString: "aba"))
        var tight = StopStringMatcher(stopStrings: ["aa"], includesStopString: false)
        #expect(tight.append("xaa", mayStop: false) == .init(text: "xa", stopString: nil))
        #expect(tight.append("b") == .init(text: "ab", stopString: nil))
    }
}
