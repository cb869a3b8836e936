internal import DaemonRuntime

/// The `messages` of a chat, down to what a chat template reads.
enum ChatMessageParser {
    static let messagesMax = 16_384

    static func messages(_ fields: RequestFields) throws(APIError) -> [ChatMessage] {
        guard let entries = try fields.array("messages") else {
            throw .invalidType(name: "messages", expected: "an array of messages")
        }
        if entries.isEmpty {
            throw .invalidField(name: "messages", reason: "must have at least one message")
        }
        if entries.count > messagesMax {
            throw .invalidField(
                name: "messages",
                reason: "has \(entries.count) entries; the limit is \(messagesMax)")
        }
        var messages: [ChatMessage] = []
        messages.reserveCapacity(entries.count)
        for (index, entry) in entries.enumerated() {
            messages.append(try message(entry, name: "messages[\(index)]"))
        }
        return messages
    }

    /// As the templates call them. They leave out what they do not know, and a message that is lost
    /// without a word is worse than one that is refused.
    private static let roles = [
        "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
        "tool": "tool",
    ]

    private static func message(
        _ value: JSONValue, name: String
    ) throws(APIError) -> ChatMessage {
        let fields = try RequestFields(object: value, name: name, path: name + ".")
        guard let role = try fields.string("role") else {
            throw .invalidType(name: fields.name("role"), expected: "a string")
        }
        guard let role = roles[role] else {
            throw .invalidField(
                name: fields.name("role"),
                reason: "is \"\(role)\"; the template knows system, user, assistant and tool")
        }
        let content = try content(fields)
        let toolCalls = try toolCalls(fields)
        // Null content stays null for an assistant, whose template tells by it that the message
        // only calls tools; anyone else's is empty.
        if content == nil && role != "assistant" {
            return ChatMessage(role: role, content: "", toolCalls: toolCalls)
        }
        return ChatMessage(role: role, content: content, toolCalls: toolCalls)
    }

    /// A string, or parts whose texts are joined by newlines, as vLLM joins them for templates
    /// that take a string.
    private static func content(_ fields: RequestFields) throws(APIError) -> String? {
        guard let value = fields.value("content") else { return nil }
        if let text = value.string { return text }
        guard let parts = value.array else {
            throw .invalidType(
                name: fields.name("content"), expected: "a string or an array of text parts")
        }
        var texts: [String] = []
        texts.reserveCapacity(parts.count)
        for (index, part) in parts.enumerated() {
            texts.append(try text(part, name: fields.name("content[\(index)]")))
        }
        return texts.joined(separator: "\n")
    }

    private static func text(_ part: JSONValue, name: String) throws(APIError) -> String {
        if let text = part.string { return text }
        let fields = try RequestFields(object: part, name: name, path: name + ".")
        // vLLM takes a part without a type for what its members say.
        let type = try fields.string("type") ?? (fields.isPresent("text") ? "text" : "")
        let member: String
        switch type {
        case "text", "input_text", "output_text": member = "text"
        case "refusal": member = "refusal"
        default:
            throw .unsupported(
                field: name, reason: "the model reads text only, not parts of type \"\(type)\"")
        }
        guard let text = try fields.string(member) else {
            throw .invalidType(name: fields.name(member), expected: "a string")
        }
        return text
    }

    private static func toolCalls(
        _ fields: RequestFields
    ) throws(APIError) -> [ChatMessage.ToolCall]? {
        guard let entries = try fields.array("tool_calls") else { return nil }
        var calls: [ChatMessage.ToolCall] = []
        calls.reserveCapacity(entries.count)
        for (index, entry) in entries.enumerated() {
            let name = fields.name("tool_calls[\(index)]")
            let call = try RequestFields(object: entry, name: name, path: name + ".")
            guard let function = try call.object("function") else {
                throw .invalidType(name: call.name("function"), expected: "an object")
            }
            guard let functionName = try function.string("name") else {
                throw .invalidType(name: function.name("name"), expected: "a string")
            }
            guard let arguments = try function.string("arguments") else {
                throw .invalidType(name: function.name("arguments"), expected: "a string")
            }
            calls.append(
                ChatMessage.ToolCall(
                    type: try call.string("type") ?? "function", name: functionName,
                    arguments: arguments))
        }
        return calls
    }
}
