/// Looks for stop strings in text that arrives in parts, and holds back what may belong to one.
///
/// The match that is complete first ends the text, however it was cut into parts; of those that
/// end at the same place the one earlier in the list counts. Only a suffix that is a proper prefix
/// of some stop string is held back. It compares UTF-8, so that a combining mark behind a stop
/// string does not hide it. One automaton a stop string: Knuth, Morris, Pratt (1977).
public struct StopStringMatcher: Sendable {
    public struct Output: Hashable, Sendable {
        /// What may be sent on now.
        public let text: String
        /// The stop string that was found; all text after it is dropped.
        public let stopString: String?
    }

    private struct Automaton: Sendable {
        let text: String
        let bytes: [UInt8]
        /// `fallbacks[n]`: the longest proper suffix of the first n bytes that is also a prefix.
        let fallbacks: [Int]
        /// How many of the bytes the text so far ends with, at most all but one after a step.
        var state = 0

        init(_ text: String) {
            self.text = text
            bytes = Array(text.utf8)
            var fallbacks = [0, 0]
            var length = 0
            for index in bytes.indices.dropFirst() {
                while length > 0, bytes[index] != bytes[length] { length = fallbacks[length] }
                if bytes[index] == bytes[length] { length += 1 }
                fallbacks.append(length)
            }
            self.fallbacks = fallbacks
        }

        /// - Returns: whether `byte` completes the stop string.
        mutating func step(_ byte: UInt8) -> Bool {
            while state > 0, bytes[state] != byte { state = fallbacks[state] }
            if bytes[state] == byte { state += 1 }
            guard state == bytes.count else { return false }
            state = fallbacks[state]
            return true
        }
    }

    private let includesStopString: Bool
    private var automata: [Automaton]
    private var held: [UInt8] = []
    public private(set) var matchedStopString: String?

    /// - Parameters:
    ///   - stopStrings: none may be empty; requests with such ones are refused at the border.
    ///   - includesStopString: leave the stop string at the end of the text.
    public init(stopStrings: [String], includesStopString: Bool) {
        precondition(stopStrings.allSatisfy { !$0.isEmpty }, "empty stop string: \(stopStrings)")
        self.includesStopString = includesStopString
        automata = stopStrings.map { Automaton($0) }
    }

    /// - Parameter mayStop: false while the request has not yet its least number of tokens; stop
    ///   strings that are complete then are text, but one that began then may end the text later.
    /// - Returns: nothing after a match.
    public mutating func append(_ text: String, mayStop: Bool = true) -> Output {
        guard matchedStopString == nil else {
            return Output(text: "", stopString: matchedStopString)
        }
        if automata.isEmpty { return Output(text: text, stopString: nil) }
        for byte in text.utf8 {
            held.append(byte)
            if let match = step(byte), mayStop { return finish(with: automata[match]) }
        }
        return Output(text: release(keeping: automata.map(\.state).max() ?? 0), stopString: nil)
    }

    /// The text is over: what was held back belongs to it.
    public mutating func finish() -> String { release(keeping: 0) }

    /// - Returns: the first automaton that `byte` completes.
    private mutating func step(_ byte: UInt8) -> Int? {
        var match: Int?
        for index in automata.indices where automata[index].step(byte) && match == nil {
            match = index
        }
        return match
    }

    private mutating func finish(with automaton: Automaton) -> Output {
        if !includesStopString { held.removeLast(automaton.bytes.count) }
        matchedStopString = automaton.text
        return Output(text: release(keeping: 0), stopString: automaton.text)
    }

    private mutating func release(keeping count: Int) -> String {
        let text = String(decoding: held.dropLast(count), as: UTF8.self)
        held.removeFirst(held.count - count)
        return text
    }
}
