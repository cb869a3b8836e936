internal import DaemonRuntime

/// What `tokenizer_config.json` says: names of special tokens and the chat template.
///
/// A template in a file of its own (`chat_template.jinja`) comes before the one in the JSON, as in
/// transformers.
public struct TokenizerConfiguration: Hashable, Sendable {
    public let path: String
    public let tokenizerClass: String?
    public let beginOfSequence: String?
    public let endOfSequence: String?
    public let padding: String?
    /// Whether encoding with special tokens puts the begin-of-sequence token in front.
    public let addsBeginOfSequence: Bool
    public let addsEndOfSequence: Bool
    public let chatTemplate: String?
    /// `added_tokens_decoder`: texts by id, in the order of the file.
    let addedTokens: [AddedToken]

    struct AddedToken: Hashable, Sendable {
        let id: Int
        let text: String
    }

    /// - Parameter folder: the checkpoint's folder.
    public init(folder: String) throws(TokenizerError) {
        let path = folder + "/tokenizer_config.json"
        let root = try TokenizerFiles.readJSON(path).root
        guard root.kind == .object else {
            throw .invalid(path: path, key: "(root)", reason: "is no object")
        }
        self.path = path
        tokenizerClass = try Self.text(root, "tokenizer_class", path: path)
        beginOfSequence = try Self.token(root, "bos_token", path: path)
        endOfSequence = try Self.token(root, "eos_token", path: path)
        padding = try Self.token(root, "pad_token", path: path)
        // Only transformers' Llama classes read these two keys; there a missing bos key is true.
        let isLlama = tokenizerClass?.hasPrefix("LlamaTokenizer") ?? false
        let addsBegin = try Self.flag(root, "add_bos_token", path: path) ?? true
        let addsEnd = try Self.flag(root, "add_eos_token", path: path) ?? false
        addsBeginOfSequence = isLlama && addsBegin
        addsEndOfSequence = isLlama && addsEnd
        addedTokens = try Self.addedTokens(root, path: path)
        chatTemplate = try Self.chatTemplate(root, folder: folder, path: path)
    }

    private static func text(
        _ root: JSONValue, _ key: String, path: String
    ) throws(TokenizerError) -> String? {
        guard let value = root[key], !value.isNull else { return nil }
        guard let text = value.string else {
            throw .invalid(path: path, key: key, reason: "is no string")
        }
        return text
    }

    private static func flag(
        _ root: JSONValue, _ key: String, path: String
    ) throws(TokenizerError) -> Bool? {
        guard let value = root[key], !value.isNull else { return nil }
        guard let flag = value.bool else {
            throw .invalid(path: path, key: key, reason: "is neither true nor false")
        }
        return flag
    }

    /// A special token is its text, or an object whose `content` is.
    private static func token(
        _ root: JSONValue, _ key: String, path: String
    ) throws(TokenizerError) -> String? {
        guard let value = root[key], value.kind == .object else {
            return try text(root, key, path: path)
        }
        guard let text = value["content"]?.string else {
            throw .invalid(path: path, key: key + ".content", reason: "is no string")
        }
        return text
    }

    private static func addedTokens(
        _ root: JSONValue, path: String
    ) throws(TokenizerError) -> [AddedToken] {
        guard let value = root["added_tokens_decoder"], !value.isNull else { return [] }
        guard let members = value.members else {
            throw .invalid(path: path, key: "added_tokens_decoder", reason: "is no object")
        }
        var tokens: [AddedToken] = []
        for (key, value) in members {
            guard let id = Int(key), let text = value["content"]?.string else {
                throw .invalid(
                    path: path, key: "added_tokens_decoder." + key,
                    reason: "is not a number with an object that has a content")
            }
            tokens.append(AddedToken(id: id, text: text))
        }
        return tokens
    }

    /// A string, or a list of named templates of which "default" counts.
    private static func chatTemplate(
        _ root: JSONValue, folder: String, path: String
    ) throws(TokenizerError) -> String? {
        let file = folder + "/chat_template.jinja"
        if TokenizerFiles.exists(file) {
            return UTF8Repair.text(try TokenizerFiles.read(file))
        }
        guard let value = root["chat_template"], let list = value.array else {
            return try text(root, "chat_template", path: path)
        }
        for entry in list where entry["name"]?.string == "default" {
            guard let template = entry["template"]?.string else { break }
            return template
        }
        throw .invalid(
            path: path, key: "chat_template", reason: "is a list without a template named default")
    }
}
