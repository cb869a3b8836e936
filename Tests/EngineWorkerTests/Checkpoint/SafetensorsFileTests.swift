import Testing

@testable import EngineWorker

@Suite struct SafetensorsFileTests {
    static let sample = SafetensorsBytes.file([
        ("a.weight", "F32", [2, 3], SafetensorsBytes.floats([1, 2, 3, 4, 5, 6])),
        ("b", "BF16", [3], [0x80, 0x3f, 0, 0xc0, 0, 0]),
        ("empty", "I8", [0, 4], []),
        ("scalar", "I64", [], [7, 0, 0, 0, 0, 0, 0, 0]),
    ])

    func load(_ bytes: [UInt8]) throws -> SafetensorsFile {
        let folder = try TemporaryFolder()
        return try SafetensorsFile(path: try folder.write("x.safetensors", bytes))
    }

    @Test func tensorsAreWhereTheHeaderSays() throws {
        let tensors = try load(Self.sample).tensors
        #expect(tensors.map(\.name) == ["a.weight", "b", "empty", "scalar"])
        #expect(tensors[0].shape == [2, 3] && tensors[0].widened() == [1, 2, 3, 4, 5, 6])
        #expect(tensors[1].widened() == [1, -2, 0])
        #expect(tensors[2].count == 0 && tensors[3].elements(as: Int64.self) == [7])
    }

    static let damaged: [(String, [UInt8], String)] = [
        ("cut in the length", Array(sample.prefix(5)), "no header"),
        ("cut in the header", Array(sample.prefix(40)), "header of"),
        ("cut in the data", Array(sample.dropLast()), "bytes"),
        ("something after the data", sample + [0], "belong to no tensor"),
        ("no JSON", SafetensorsBytes.file(header: "{\"a\":", data: []), "not JSON"),
        ("no object", SafetensorsBytes.file(header: "[1]", data: []), "no JSON object"),
        ("overlap", tensors("[0,4]", "[0,4]", 4), "begin"),
        ("hole", tensors("[0,4]", "[8,12]", 12), "begin"),
        ("beyond the end", tensors("[0,4]", "[4,8]", 4), "of 4 that"),
        ("reversed", tensors("[4,0]", "[0,4]", 4), "bytes 4 to 0"),
        ("negative", tensors("[-4,0]", "[0,4]", 4), "bytes -4"),
        ("wrong size", tensors("[0,3]", "[3,7]", 7), "3 bytes for"),
        ("no offsets", tensors("[0]", "[0,4]", 4), "data_offsets"),
        (
            "twice",
            SafetensorsBytes.file([("a", "I8", [1], [1]), ("a", "I8", [1], [2])]), "comes twice"
        ),
        ("unknown type", SafetensorsBytes.file([("a", "F4", [1], [1])]), "dtype F4"),
        (
            "huge shape",
            SafetensorsBytes.file([("a", "F32", [1 << 40, 1 << 40], [])]), "larger than memory"
        ),
        ("negative dimension", SafetensorsBytes.file([("a", "I8", [-1], [])]), "no size"),
    ]

    static func tensors(_ first: String, _ second: String, _ count: Int) -> [UInt8] {
        let header =
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":\(first)},"
            + "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":\(second)}}"
        return SafetensorsBytes.file(
            header: header, data: Array(repeating: 0, count: count))
    }

    @Test(arguments: damaged) func damageIsNamed(
        damage: String, bytes: [UInt8], reason: String
    ) throws {
        do {
            _ = try load(bytes)
            Issue.record("\(damage) was accepted")
        } catch let error as CheckpointError {
            #expect("\(error)".contains(reason), "\(damage): \(error)")
            #expect("\(error)".contains("x.safetensors"))
        }
    }

    @Test func emptyAndMissingFilesAndFoldersAreErrors() throws {
        let folder = try TemporaryFolder()
        let empty = try folder.write("empty.safetensors", [])
        #expect(throws: CheckpointError.self) { try SafetensorsFile(path: empty) }
        #expect(throws: CheckpointError.self) { try SafetensorsFile(path: folder.path + "/no") }
        #expect(throws: CheckpointError.self) { try SafetensorsFile(path: folder.path) }
    }

    @Test func noTruncationOrBitFlipCrashes() throws {
        let folder = try TemporaryFolder()
        func attempt(_ bytes: [UInt8]) throws -> Bool {
            let path = try folder.write("x.safetensors", bytes)
            do {
                // What loads must be readable to the last byte.
                for tensor in try SafetensorsFile(path: path).tensors {
                    _ = tensor.bytes.reduce(0) { $0 &+ Int($1) }
                }
                return true
            } catch { return false }
        }
        for count in Self.sample.indices {
            #expect(try !attempt(Array(Self.sample.prefix(count))), "\(count)")
        }
        var loaded = 0
        for index in Self.sample.indices {
            var bytes = Self.sample
            bytes[index] ^= 1 << UInt8(index % 8)
            if try attempt(bytes) { loaded += 1 }
        }
        // Flips in names and data load; flips in lengths, offsets and types mostly don't.
        #expect(loaded > 30 && loaded < Self.sample.count - 100, "\(loaded)")
    }
}
