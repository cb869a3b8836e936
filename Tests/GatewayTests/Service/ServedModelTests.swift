import DaemonRuntime
import Testing

@testable import Gateway

@Suite struct ServedModelTests {
    static func options(_ more: [String] = []) throws -> Options {
        let folder = TokenizerFixtures.folder + "/../models/tiny-random"
        return try Options(
            daemon: .gateway, arguments: ["--model", folder, "--host", "127.0.0.1"] + more)
    }

    /// Short texts that the template writes itself, too: "end" is part of its end of a sentence.
    @Test(arguments: ["A long answer that", "end", "of", ">", ">>", "｜", "e", "\u{301}x", " a "])
    func aContinuedMessageEndsThePrompt(content: String) throws {
        let model = try ServedModel(Self.options())
        let messages = [
            ChatMessage(role: "user", content: "Why?"),
            ChatMessage(role: "assistant", content: content),
        ]
        let whole = try model.render(
            messages, addGenerationPrompt: false, continueFinalMessage: false)
        let text = try model.render(
            messages, addGenerationPrompt: false, continueFinalMessage: true)
        let isPrefix = whole.utf8.starts(with: text.utf8)
        let ends = text.utf8.suffix(content.utf8.count).elementsEqual(content.utf8)
        #expect(isPrefix && ends, "\(text)")
        let ending = "<｜end▁of▁sentence｜>"
        #expect(whole.utf8.count == text.utf8.count + ending.utf8.count, "\(text)")
    }

    @Test func aLengthThatTheModelDoesNotHaveIsRefused() throws {
        let options = try Self.options(["--max-model-len", "200000"])
        #expect(throws: ServedModelError.self) { try ServedModel(options) }
        #expect(
            try ServedModel(Self.options(["--max-model-len", "99"])).defaults.contextLength == 99)
    }
}
