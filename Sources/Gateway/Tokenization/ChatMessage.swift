/// One message of a chat, as far as a chat template reads it.
public struct ChatMessage: Hashable, Sendable {
    /// A call that the assistant made, as it stands in the conversation.
    public struct ToolCall: Hashable, Sendable {
        /// "function".
        public let type: String
        public let name: String
        /// JSON text, passed to the template as it came.
        public let arguments: String

        public init(type: String, name: String, arguments: String) {
            self.type = type
            self.name = name
            self.arguments = arguments
        }
    }

    /// "system", "user", "assistant", "tool", or what the client wrote.
    public let role: String
    /// nil where the client sent null (assistant messages that only call tools).
    public let content: String?
    /// nil where the message has no `tool_calls` member.
    public let toolCalls: [ToolCall]?

    public init(role: String, content: String?, toolCalls: [ToolCall]? = nil) {
        self.role = role
        self.content = content
        self.toolCalls = toolCalls
    }
}
