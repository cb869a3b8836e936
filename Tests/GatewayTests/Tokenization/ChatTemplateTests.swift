import Foundation
import Testing

@testable import Gateway

@Suite struct ChatTemplateTests {
    private struct Golden: Decodable {
        struct Message: Decodable {
            struct Call: Decodable {
                struct Function: Decodable {
                    let name: String
                    let arguments: String
                }
                let type: String
                let function: Function
            }
            let role: String
            let content: String?
            let toolCalls: [Call]?

            var message: ChatMessage {
                ChatMessage(
                    role: role, content: content,
                    toolCalls: toolCalls?.map {
                        ChatMessage.ToolCall(
                            type: $0.type, name: $0.function.name,
                            arguments: $0.function.arguments)
                    })
            }
        }
        let messages: [Message]
        let addGenerationPrompt: Bool
        let text: String
        let idsV3: [Int32]
        let idsTiny: [Int32]
    }

    private func goldens() throws -> [Golden] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let path = TokenizerFixtures.folder + "/chat-goldens.json"
        return try decoder.decode([Golden].self, from: Data(contentsOf: URL(filePath: path)))
    }

    private func configuration(
        _ change: (inout [String: Any]) -> Void
    ) throws -> TokenizerConfiguration {
        let path = TokenizerFixtures.folder("tiny") + "/tokenizer_config.json"
        let data = try Data(contentsOf: URL(filePath: path))
        var members = try #require(
            JSONSerialization.jsonObject(with: data) as? [String: Any])
        change(&members)
        let folder = try TokenizerFixtures.TemporaryFolder()
        try folder.write(
            JSONSerialization.data(withJSONObject: members), as: "tokenizer_config.json")
        return try TokenizerConfiguration(folder: folder.path)
    }

    @Test(arguments: TokenizerFixtures.names)
    func everyChatIsRenderedAndEncodedAsTheReferenceDoes(name: String) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder(name))
        let template = try ChatTemplate(configuration: tokenizer.configuration)
        #expect(template.family == .deepSeekV3)
        let goldens = try goldens()
        #expect(goldens.count == 28)
        for (index, golden) in goldens.enumerated() {
            let text = try template.render(
                messages: golden.messages.map(\.message),
                addGenerationPrompt: golden.addGenerationPrompt)
            #expect(text.utf8.elementsEqual(golden.text.utf8), "chat \(index)")
            #expect(
                try tokenizer.encode(text, addSpecialTokens: false)
                    == (name == "tiny" ? golden.idsTiny : golden.idsV3), "chat \(index)")
        }
    }

    @Test func theTemplateOfR1OpensTheReasoning() throws {
        let configuration = try configuration { members in
            let template = members["chat_template"] as? String ?? ""
            let end = "{{'<｜Assistant｜>'}}{% endif %}"
            members["chat_template"] =
                template.dropLast(end.count) + #"{{'<｜Assistant｜><think>\n'}}{% endif %}"#
        }
        let template = try ChatTemplate(configuration: configuration)
        #expect(template.family == .deepSeekR1)
        let messages = [ChatMessage(role: "user", content: "hi")]
        #expect(
            try template.render(messages: messages, addGenerationPrompt: true)
                == "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜><think>\n")
        #expect(
            try template.render(messages: messages, addGenerationPrompt: false)
                == "<｜begin▁of▁sentence｜><｜User｜>hi")
    }

    @Test func aTemplateWithOneOtherByteIsRefused() throws {
        let changed = try configuration { members in
            let template = members["chat_template"] as? String ?? ""
            members["chat_template"] = template.replacingOccurrences(
                of: "ns.is_first = true", with: "ns.is_first =true ")
        }
        let error = #expect(throws: ChatTemplateError.self) {
            try ChatTemplate(configuration: changed)
        }
        let text = error.map(\.description) ?? ""
        #expect(text.contains("DeepSeek-V3-0324") && text.contains("DeepSeek-R1"))
        let none = try configuration { $0["chat_template"] = nil }
        #expect(throws: ChatTemplateError.missing(path: none.path)) {
            try ChatTemplate(configuration: none)
        }
    }

    @Test(arguments: ["system", "user", "assistant", "tool"])
    func aMissingContentIsNamed(role: String) throws {
        let template = try ChatTemplate(configuration: configuration { _ in })
        let messages = [
            ChatMessage(role: "user", content: "q"), ChatMessage(role: role, content: nil),
        ]
        #expect(throws: ChatTemplateError.contentMissing(index: 1, role: role)) {
            try template.render(messages: messages, addGenerationPrompt: true)
        }
    }

    @Test func aTemplateListHasADefault() throws {
        let configuration = try configuration { members in
            members["chat_template"] = [
                ["name": "tool_use", "template": "x"],
                ["name": "default", "template": members["chat_template"] ?? ""],
            ]
        }
        #expect(try ChatTemplate(configuration: configuration).family == .deepSeekV3)
    }
}
