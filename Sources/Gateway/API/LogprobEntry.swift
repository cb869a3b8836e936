/// A token of an answer or a prompt with its logprob, as text.
public struct LogprobEntry: Hashable, Sendable {
    public struct Candidate: Hashable, Sendable {
        public let tokenID: Int32
        public let text: String
        /// The token's own bytes, which `text` can't show when they are part of a character; nil
        /// prints the bytes of `text`, as vLLM does.
        public let bytes: [UInt8]?
        public let logprob: Float

        public init(tokenID: Int32, text: String, bytes: [UInt8]? = nil, logprob: Float) {
            self.tokenID = tokenID
            self.text = text
            self.bytes = bytes
            self.logprob = logprob
        }
    }

    public let token: Candidate
    /// 1 for the most likely token; 0 for the first token of a prompt, which has no logprob.
    public let rank: Int32
    /// Most likely first.
    public let top: [Candidate]

    public init(token: Candidate, rank: Int32, top: [Candidate]) {
        self.token = token
        self.rank = rank
        self.top = top
    }

    /// The first token of a prompt: nothing comes before it, so nothing is known about it.
    public static func promptStart(tokenID: Int32, text: String) -> LogprobEntry {
        LogprobEntry(
            token: Candidate(tokenID: tokenID, text: text, logprob: 0), rank: 0, top: [])
    }

    var isPromptStart: Bool { rank == 0 }
}
