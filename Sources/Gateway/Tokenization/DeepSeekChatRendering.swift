/// One run of the chat template of DeepSeek-V3-0324 and DeepSeek-R1, statement by statement.
///
/// The template's own rules, oddities included: all system messages come first, joined by blank
/// lines; `isFirst` and `isOutputFirst` are never reset, so only the first tool call of a whole
/// chat opens a list of calls, and only the first result a list of results; a message of an unknown
/// role adds nothing.
struct DeepSeekChatRendering {
    private static let endOfSequence = "<｜end▁of▁sentence｜>"

    private var prompt: String
    /// Has a tool call been written?
    private var isFirst = false
    /// Are we behind a tool's result?
    private var isTool = false
    private var isOutputFirst = true

    init(prompt: String) { self.prompt = prompt }

    mutating func addSystemPrompt(of messages: [ChatMessage]) throws(ChatTemplateError) {
        var isFirstSystem = true
        for (index, message) in messages.enumerated() where message.role == "system" {
            if !isFirstSystem { prompt += "\n\n" }
            prompt += try content(message, index)
            isFirstSystem = false
        }
    }

    mutating func add(_ message: ChatMessage, at index: Int) throws(ChatTemplateError) {
        switch message.role {
        case "user":
            isTool = false
            prompt += "<｜User｜>" + (try content(message, index))
        case "assistant":
            if let calls = message.toolCalls {
                addCalls(calls, of: message)
            } else {
                try addAnswer(message, index)
            }
        case "tool":
            isTool = true
            if isOutputFirst { prompt += "<｜tool▁outputs▁begin｜>" }
            isOutputFirst = false
            prompt += "<｜tool▁output▁begin｜>" + (try content(message, index))
            prompt += "<｜tool▁output▁end｜>"
        default: break
        }
    }

    func finish(generationPrompt: String?) -> String {
        // After a tool's result the assistant goes on without a mark of its role.
        isTool ? prompt + "<｜tool▁outputs▁end｜>" : prompt + (generationPrompt ?? "")
    }

    private mutating func addCalls(_ calls: [ChatMessage.ToolCall], of message: ChatMessage) {
        isTool = false
        for call in calls {
            if isFirst {
                prompt += "\n"
            } else {
                prompt += "<｜Assistant｜>" + (message.content ?? "") + "<｜tool▁calls▁begin｜>"
            }
            isFirst = true
            prompt += "<｜tool▁call▁begin｜>" + call.type + "<｜tool▁sep｜>" + call.name
            prompt += "\n```json\n" + call.arguments + "\n```<｜tool▁call▁end｜>"
        }
        prompt += "<｜tool▁calls▁end｜>" + Self.endOfSequence
    }

    private mutating func addAnswer(
        _ message: ChatMessage, _ index: Int
    ) throws(ChatTemplateError) {
        let content = try content(message, index)
        if isTool {
            prompt += "<｜tool▁outputs▁end｜>" + content
            isTool = false
        } else {
            prompt += "<｜Assistant｜>" + Self.withoutReasoning(content)
        }
        prompt += Self.endOfSequence
    }

    /// What follows the last `</think>`: earlier reasoning is not shown to the model again.
    private static func withoutReasoning(_ content: String) -> String {
        let mark = Array("</think>".utf8)
        let bytes = Array(content.utf8)
        var start = bytes.count - mark.count
        while start >= 0 {
            if bytes[start..<start + mark.count].elementsEqual(mark) {
                return String(decoding: bytes[(start + mark.count)...], as: UTF8.self)
            }
            start -= 1
        }
        return content
    }

    private func content(
        _ message: ChatMessage, _ index: Int
    ) throws(ChatTemplateError) -> String {
        guard let content = message.content else {
            throw .contentMissing(index: index, role: message.role)
        }
        return content
    }
}
