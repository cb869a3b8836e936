internal import DaemonRuntime
internal import Glibc

/// Reads the JSON files of a checkpoint's folder, with a bound on their size.
enum TokenizerFiles {
    /// DeepSeek's tokenizer.json is 8 MB; the largest published ones are below 40 MB.
    static let fileBytesMax = 256 << 20

    static func readJSON(_ path: String) throws(TokenizerError) -> JSONDocument {
        let bytes = try read(path)
        do {
            return try JSONDocument(bytes)
        } catch {
            throw .notJSON(path: path, reason: error.reason)
        }
    }

    static func exists(_ path: String) -> Bool { access(path, R_OK) == 0 }

    static func read(_ path: String) throws(TokenizerError) -> [UInt8] {
        do throws(FileError) {
            return try FileContents.read(path, bytesMax: fileBytesMax)
        } catch {
            switch error {
            case .unreadable(let reason): throw .unreadable(path: path, reason: reason)
            case .tooLarge(let byteCount, let limit):
                throw .tooLarge(path: path, byteCount: byteCount, limit: limit)
            }
        }
    }
}
