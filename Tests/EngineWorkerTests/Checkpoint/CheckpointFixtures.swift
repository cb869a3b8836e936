import Foundation

@testable import EngineWorker

/// A folder of its own that goes away with the object.
final class TemporaryFolder {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path
    }

    /// A copy of a checkpoint folder of the repository.
    convenience init(copyOf model: String) throws {
        try self.init()
        let source = Fixtures.model(model)
        for name in try FileManager.default.contentsOfDirectory(atPath: source) {
            try FileManager.default.copyItem(
                atPath: source + "/" + name, toPath: path + "/" + name)
        }
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: path) } catch { print("\(path): \(error)") }
    }

    @discardableResult func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = path + "/" + name
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        return file
    }

    func read(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path + "/" + name)))
    }

    func remove(_ name: String) throws {
        try FileManager.default.removeItem(atPath: path + "/" + name)
    }

    /// Replaces keys of a JSON object in a file; nil removes one.
    func edit(_ name: String, _ changes: [(String, Any?)]) throws {
        let parsed = try JSONSerialization.jsonObject(with: Data(try read(name)))
        var object = parsed as? [String: Any] ?? [:]
        for (key, value) in changes { object[key] = value }
        try write(name, Array(try JSONSerialization.data(withJSONObject: object)))
    }
}

/// A safetensors file in memory.
enum SafetensorsBytes {
    static func file(header: String, data: [UInt8]) -> [UInt8] {
        let bytes = Array(header.utf8)
        let length = withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { Array($0) }
        return length + bytes + data
    }

    static func file(_ tensors: [(name: String, type: String, shape: [Int], data: [UInt8])])
        -> [UInt8]
    {
        var (entries, data) = ([String](), [UInt8]())
        for tensor in tensors {
            let end = data.count + tensor.data.count
            entries.append(
                "\"\(tensor.name)\":{\"dtype\":\"\(tensor.type)\",\"shape\":\(tensor.shape),"
                    + "\"data_offsets\":[\(data.count),\(end)]}")
            data += tensor.data
        }
        return file(header: "{" + entries.joined(separator: ",") + "}", data: data)
    }

    static func floats(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
}
