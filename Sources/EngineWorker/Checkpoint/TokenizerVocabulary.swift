internal import DaemonRuntime

/// How many token ids the checkpoint's tokenizer knows. The rows of the head above them are padding
/// that must never be sampled; the tokenizer itself is the gateway's business.
enum TokenizerVocabulary {
    static let bytesMax = 256 << 20

    /// One more than the largest id in `tokenizer.json`; nil when there is none to read.
    static func count(folder: String) -> Int? {
        let path = "\(folder)/tokenizer.json"
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try FileContents.read(path, bytesMax: bytesMax)
        } catch { return nil }
        let document: JSONDocument
        do throws(JSONError) { document = try JSONDocument(bytes) } catch { return nil }
        var largest = -1
        document.root["model"]?["vocab"]?.forEachMember { _, id in
            largest = max(largest, id.integer ?? -1)
        }
        for token in document.root["added_tokens"]?.array ?? [] {
            largest = max(largest, token["id"]?.integer ?? -1)
        }
        return largest >= 0 ? largest + 1 : nil
    }
}
