import Foundation

/// Where the tokenizers of Tests/Fixtures are, and what is known about them.
///
/// The records were made with tokenizers 0.23.3, one JSON object a line after a header.
enum TokenizerFixtures {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Fixtures/tokenizers").standardizedFileURL.path

    static let names = ["tiny", "deepseek-v3"]

    static func folder(_ name: String) -> String { folder + "/" + name }

    struct Record: Decodable {
        let kind: String
        let n: Int?
        let text: String?
        let ids: [Int32]?
        let tokenBytes: [String?]?
        let decoded: String?
        let decodedSkipSpecial: String?
        let incremental: [String?]?
    }

    static func records(_ name: String, kind: String) throws -> [Record] {
        let text = try String(contentsOfFile: "\(folder)/goldens-\(name).jsonl", encoding: .utf8)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try text.utf8.split(separator: 0x0A)
            .map { try decoder.decode(Record.self, from: Data($0)) }
            .filter { $0.kind == kind }
    }

    static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { (String($0, radix: 16).count == 1 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// A folder that goes when the test is over.
    final class TemporaryFolder {
        let path: String

        init() throws {
            path = NSTemporaryDirectory() + "/tokenizer-" + UUID().uuidString
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true)
        }

        deinit {
            do {
                try FileManager.default.removeItem(atPath: path)
            } catch {
                print("left behind: \(path): \(error)")
            }
        }

        func write(_ text: Data, as name: String) throws {
            try text.write(to: URL(filePath: path + "/" + name))
        }
    }
}

/// SplitMix64: the same random tests from the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
