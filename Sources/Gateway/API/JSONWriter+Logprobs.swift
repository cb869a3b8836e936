/// The three forms in which logprobs are answered: OpenAI's for completions, OpenAI's for chats,
/// and vLLM's for prompts.
///
/// In vLLM all three are made from one table a token, which holds the token itself first and then
/// the most likely ones; the forms show different lengths of it, and so do these.
extension JSONWriter {
    /// JSON has no infinity; this is what vLLM prints for it.
    static let logprobFloor: Float = -9999

    /// `{"text_offset":[],"token_logprobs":[],"tokens":[],"top_logprobs":[]}`, or null.
    ///
    /// - Parameter offset: Unicode scalars before the first token.
    mutating func completionLogprobs(
        _ entries: [LogprobEntry]?, format: LogprobsFormat?, offset: Int
    ) {
        guard let entries, let format else { return raw("null") }
        var offset = offset
        raw(#"{"text_offset":"#)
        array(entries) { writer, entry in
            writer.integer(offset)
            offset += Self.shown(entry.token, format).unicodeScalars.count
        }
        raw(#","token_logprobs":"#)
        array(entries) { writer, entry in
            if entry.isPromptStart { writer.raw("null") } else { writer.logprob(entry.token) }
        }
        raw(#","tokens":"#)
        array(entries) { writer, entry in writer.string(Self.shown(entry.token, format)) }
        raw(#","top_logprobs":"#)
        array(entries) { writer, entry in writer.table(entry, format) }
        raw("}")
    }

    /// Token text to logprob: the token and up to `topCount` others (N or N + 1 members).
    private mutating func table(_ entry: LogprobEntry, _ format: LogprobsFormat) {
        if entry.isPromptStart { return raw("null") }
        // Different tokens can have one text (pieces of characters); as in a Python dict, the
        // first one's place and the last one's value stay.
        var names: [String] = []
        var logprobs: [Float] = []
        for candidate in Self.candidates(of: entry, limit: format.topCount + 1) {
            let name = Self.shown(candidate, format)
            if let position = names.firstIndex(of: name) {
                logprobs[position] = candidate.logprob
            } else {
                names.append(name)
                logprobs.append(candidate.logprob)
            }
        }
        raw("{")
        for position in names.indices {
            if position > 0 { raw(",") }
            string(names[position])
            raw(":")
            number(Self.floored(logprobs[position]))
        }
        raw("}")
    }

    /// `{"content":[{"token","logprob","bytes","top_logprobs":[…]}]}`, or null.
    mutating func chatLogprobs(_ entries: [LogprobEntry]?, format: LogprobsFormat?) {
        guard let entries, let format else { return raw("null") }
        raw(#"{"content":"#)
        array(entries) { writer, entry in
            writer.raw("{")
            writer.chatToken(entry.token, format)
            writer.raw(#","top_logprobs":"#)
            // As in vLLM the token itself is one of them, even where it isn't likely.
            writer.array(Self.candidates(of: entry, limit: format.topCount)) { writer, candidate in
                writer.raw("{")
                writer.chatToken(candidate, format)
                writer.raw("}")
            }
            writer.raw("}")
        }
        raw("}")
    }

    private mutating func chatToken(
        _ candidate: LogprobEntry.Candidate, _ format: LogprobsFormat
    ) {
        let text = Self.shown(candidate, format)
        raw(#""token":"#)
        string(text)
        raw(#","logprob":"#)
        logprob(candidate)
        raw(#","bytes":"#)
        if let bytes = candidate.bytes, !format.tokensAsTokenIDs {
            array(bytes) { $0.integer($1) }
        } else {
            array(text.utf8) { $0.integer($1) }
        }
    }

    /// `[null,{"5":{"logprob","rank","decoded_token"},…},…]`, or null.
    mutating func promptLogprobs(_ entries: [LogprobEntry]?) {
        guard let entries else { return raw("null") }
        array(entries) { writer, entry in
            if entry.isPromptStart { return writer.raw("null") }
            writer.raw("{")
            writer.ranked(entry.token, rank: Int(entry.rank))
            for (position, candidate) in entry.top.enumerated()
            where candidate.tokenID != entry.token.tokenID {
                writer.raw(",")
                writer.ranked(candidate, rank: position + 1)
            }
            writer.raw("}")
        }
    }

    private mutating func ranked(_ candidate: LogprobEntry.Candidate, rank: Int) {
        raw("\"")
        integer(candidate.tokenID)
        raw(#"":{"logprob":"#)
        logprob(candidate)
        raw(#","rank":"#)
        integer(rank)
        raw(#","decoded_token":"#)
        string(candidate.text)
        raw("}")
    }

    private mutating func logprob(_ candidate: LogprobEntry.Candidate) {
        number(Self.floored(candidate.logprob))
    }

    /// Also what a NaN becomes, which no logprob should be.
    static func floored(_ logprob: Float) -> Float {
        logprob > logprobFloor ? min(logprob, 0) : logprobFloor
    }

    private static func shown(
        _ candidate: LogprobEntry.Candidate, _ format: LogprobsFormat
    ) -> String {
        format.tokensAsTokenIDs ? "token_id:\(candidate.tokenID)" : candidate.text
    }

    /// The token itself, then the likely ones, each once.
    private static func candidates(
        of entry: LogprobEntry, limit: Int
    ) -> [LogprobEntry.Candidate] {
        guard limit > 0 else { return [] }
        var candidates: [LogprobEntry.Candidate] = []
        candidates.reserveCapacity(min(entry.top.count + 1, limit))
        candidates.append(entry.token)
        for candidate in entry.top where candidate.tokenID != entry.token.tokenID {
            if candidates.count >= limit { break }
            candidates.append(candidate)
        }
        return candidates
    }
}
