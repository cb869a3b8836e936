/// Turns the messages of a chat into the prompt that the checkpoint was trained on.
///
/// Templates are Jinja programs; the two of the DeepSeek V3 family are rendered natively, quirks
/// and all, because a prompt that differs by one token answers worse. A template is recognised by
/// its whole text (length and FNV-1a of all before the generation prompt), never by a likeness.
public struct ChatTemplate: Hashable, Sendable {
    public enum Family: String, Hashable, Sendable, CaseIterable {
        /// DeepSeek-V3-0324: the assistant's turn begins with nothing.
        case deepSeekV3 = "DeepSeek-V3-0324"
        /// DeepSeek-R1 (March 2025): the same, and the assistant's turn begins with `<think>`.
        case deepSeekR1 = "DeepSeek-R1"

        /// What the template adds for the assistant's turn, as rendered.
        var generationPrompt: String {
            switch self {
            case .deepSeekV3: "<｜Assistant｜>"
            case .deepSeekR1: "<｜Assistant｜><think>\n"
            }
        }

        /// The same as Jinja source: the end of the template.
        fileprivate var ending: String {
            let literal =
                switch self {
                case .deepSeekV3: "<｜Assistant｜>"
                case .deepSeekR1: #"<｜Assistant｜><think>\n"#
                }
            return "{% if add_generation_prompt and not ns.is_tool %}{{'\(literal)'}}{% endif %}"
        }
    }

    public let family: Family
    private let beginOfSequence: String

    /// Of the text of both templates up to the generation prompt.
    private static let bodyByteCount = 2673
    private static let bodyDigest: UInt64 = 0xABD1_F2FE_917F_FE9F

    /// - Throws: where the configuration has no template, or one that is not known.
    public init(configuration: TokenizerConfiguration) throws(ChatTemplateError) {
        guard let template = configuration.chatTemplate else {
            throw .missing(path: configuration.path)
        }
        guard let family = Self.family(of: template) else {
            throw .unknown(
                path: configuration.path, byteCount: template.utf8.count,
                known: Family.allCases.map(\.rawValue))
        }
        self.family = family
        beginOfSequence = configuration.beginOfSequence ?? ""
    }

    private static func family(of template: String) -> Family? {
        var bytes = Array(template.utf8)[...]
        // A file of its own may end in a newline, which Jinja drops.
        if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
        for family in Family.allCases {
            let ending = Array(family.ending.utf8)
            guard bytes.count == bodyByteCount + ending.count,
                bytes.suffix(ending.count).elementsEqual(ending)
            else { continue }
            var digest: UInt64 = 0xCBF2_9CE4_8422_2325
            for byte in bytes.dropLast(ending.count) {
                digest = (digest ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
            }
            if digest == bodyDigest { return family }
        }
        return nil
    }

    /// The prompt's text. It begins with the begin-of-sequence token: encode it without adding
    /// special tokens.
    ///
    /// - Throws: where a message has no content and the template needs one.
    public func render(
        messages: [ChatMessage], addGenerationPrompt: Bool
    ) throws(ChatTemplateError) -> String {
        var rendering = DeepSeekChatRendering(prompt: beginOfSequence)
        try rendering.addSystemPrompt(of: messages)
        for (index, message) in messages.enumerated() { try rendering.add(message, at: index) }
        return rendering.finish(
            generationPrompt: addGenerationPrompt ? family.generationPrompt : nil)
    }
}

public enum ChatTemplateError: Error, Hashable, Sendable, CustomStringConvertible {
    case missing(path: String)
    case unknown(path: String, byteCount: Int, known: [String])
    /// `content` is null where the template adds it to a text; `index` counts from 0.
    case contentMissing(index: Int, role: String)

    public var description: String {
        switch self {
        case .missing(let path):
            "\(path): chat_template: is missing; this checkpoint can complete text, but not chat"
        case .unknown(let path, let byteCount, let known):
            "\(path): chat_template: this template of \(byteCount) bytes is not known; known are "
                + "those of \(known.joined(separator: " and "))"
        case .contentMissing(let index, let role):
            "messages[\(index)].content: is null; a message of role '\(role)' needs a text here"
        }
    }
}
