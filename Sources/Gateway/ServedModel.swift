internal import DaemonRuntime
internal import Glibc

/// Why the gateway cannot serve a model folder.
struct ServedModelError: Error, Hashable, CustomStringConvertible {
    let description: String
}

/// What the gateway needs of a checkpoint: tokenizer, chat template, bounds and sampling defaults.
/// The weights are the workers' business.
struct ServedModel {
    static let configurationBytesMax = 16 << 20

    let tokenizer: Tokenizer
    /// nil, with the reason, where the template is not one that can be rendered.
    let chatTemplate: Result<ChatTemplate, ChatTemplateError>
    /// Its limits may change.
    var defaults: ModelDefaults
    let folder: String
    /// DP ranks that the deployment may ever have.
    let rankCountMax: Int
    /// Tokens a block of the ranks' prefix caches; nil where those are off.
    let cachedBlockSize: Int?
    let created: Int64
    /// Unicode scalars of the longest token, at most.
    let tokenCharactersMax: Int

    /// - Parameter options: with the coordinator's deployment-wide values in place.
    init(_ options: Options) throws(ServedModelError) {
        guard let folder = options.text("model") else {
            throw ServedModelError(description: "the coordinator names no model")
        }
        self.folder = folder
        rankCountMax = options.dataParallelSizeMax
        cachedBlockSize =
            options.flag("enable-prefix-caching") ? options.requiredInteger("block-size") : nil
        created = MonotonicClock.wallMicroseconds() / 1_000_000
        do throws(TokenizerError) {
            tokenizer = try Tokenizer(folder: options.text("tokenizer") ?? folder)
        } catch {
            throw ServedModelError(description: "\(error)")
        }
        let tokenizer = tokenizer
        tokenCharactersMax = (0..<tokenizer.vocabularyCount).reduce(1) {
            max($0, tokenizer.tokenBytes(Int32($1))?.count ?? 0)
        }
        let configuration = tokenizer.configuration
        do throws(ChatTemplateError) {
            chatTemplate = .success(try ChatTemplate(configuration: configuration))
        } catch {
            chatTemplate = .failure(error)
        }
        let config = try Self.readJSON("\(folder)/config.json")
        guard let longest = config.root["max_position_embeddings"]?.integer, longest > 0,
            let vocabulary = config.root["vocab_size"]?.integer,
            (1...Int(Int32.max)).contains(vocabulary)
        else {
            throw ServedModelError(
                description: "\(folder)/config.json: needs max_position_embeddings and vocab_size")
        }
        let wanted = options.integer("max-model-len") ?? longest
        guard wanted <= longest else {
            throw ServedModelError(
                description: "--max-model-len \(wanted) is more than the \(longest) of "
                    + "\(folder)/config.json")
        }
        var defaults = ModelDefaults(
            servedModelNames: (options.text("served-model-name") ?? folder)
                .split(separator: ",").map(String.init),
            contextLength: wanted,
            vocabularySize: vocabulary)
        defaults.maxLogprobs = options.requiredInteger("max-logprobs")
        if options.text("generation-config") == "auto" {
            defaults.sampling = try Self.generationConfig(folder)
        }
        self.defaults = defaults
    }

    private static func generationConfig(_ folder: String) throws(ServedModelError)
        -> GenerationConfig
    {
        let path = "\(folder)/generation_config.json"
        // A checkpoint may have none.
        guard access(path, F_OK) == 0 else { return GenerationConfig() }
        let bytes = try read(path)
        do throws(APIError) {
            return try GenerationConfig(json: bytes)
        } catch {
            throw ServedModelError(description: "\(path): \(error.message)")
        }
    }

    private static func readJSON(_ path: String) throws(ServedModelError) -> JSONDocument {
        let bytes = try read(path)
        do throws(JSONError) {
            return try JSONDocument(bytes)
        } catch {
            throw ServedModelError(description: "\(path): is not JSON: \(error.reason)")
        }
    }

    private static func read(_ path: String) throws(ServedModelError) -> [UInt8] {
        do throws(FileError) {
            return try FileContents.read(path, bytesMax: configurationBytesMax)
        } catch {
            throw ServedModelError(description: "\(path): \(error)")
        }
    }
}

extension ServedModel {
    func encode(_ text: String, addSpecialTokens: Bool) throws(APIError) -> [Int32] {
        do throws(TokenizerError) {
            return try tokenizer.encode(text, addSpecialTokens: addSpecialTokens)
        } catch {
            throw .engineError(reason: "\(error)")
        }
    }

    /// The prompt of a chat, as the checkpoint's template writes it. To continue the final message,
    /// the text ends with that message's content.
    ///
    /// A mark behind the content finds that place, as in Transformers: a search for the content
    /// itself could find it in what the template writes after it ("end" of an end-of-sentence).
    func render(
        _ messages: [ChatMessage], addGenerationPrompt: Bool, continueFinalMessage: Bool
    ) throws(APIError) -> String {
        guard continueFinalMessage, let final = messages.last, let content = final.content,
            !content.isEmpty
        else { return try render(messages, addGenerationPrompt) }
        let marked = ChatMessage(
            role: final.role, content: content + Self.endMark, toolCalls: final.toolCalls)
        let text = try render(messages.dropLast() + [marked], addGenerationPrompt)
        guard let place = text.utf8.ranges(of: Self.endMark.utf8).last else {
            throw .invalidField(
                name: "continue_final_message",
                reason: "needs a final message that the template keeps as it is")
        }
        return String(text[..<place.lowerBound])
    }

    /// Of the private use area: no text means it.
    private static let endMark = "\u{F8FF}end of the final message\u{F8FF}"

    private func render(
        _ messages: [ChatMessage], _ addGenerationPrompt: Bool
    ) throws(APIError) -> String {
        do throws(ChatTemplateError) {
            return try chatTemplate.get().render(
                messages: messages, addGenerationPrompt: addGenerationPrompt)
        } catch {
            throw .invalidField(name: "messages", reason: "cannot be rendered: \(error)")
        }
    }
}
