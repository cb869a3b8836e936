internal import DaemonRuntime

/// The tensors of a checkpoint folder, mapped and indexed by name; nothing is read but headers.
///
/// Shards may have any name. An index file (`*.safetensors.index.json`) decides which files
/// belong, so that a folder may hold other things; without one, all `*.safetensors` files do.
public final class Checkpoint {
    static let indexSuffix = ".safetensors.index.json"
    /// Of each tensor's values, to tell apart two trainings of the same architecture.
    private static let digestedBytes = 1024

    public let folder: String
    public let config: ModelConfig
    /// Names of a checkpoint that two nodes hold are equal if and only if their digests are:
    /// FNV-1a 64 over the bytes of config.json and each tensor's name, type and shape, in the
    /// order of names, and over the first bytes of every tensor that all workers read (experts are
    /// left out: a worker must not touch those of others). How tensors are spread over files does
    /// not matter.
    public let digest: String
    /// Of these very files, on this host: ``digest``, the sizes of the files with tensors and when
    /// they were last written, and the description of a quantisation. It differs after any change
    /// to a file's contents by ordinary means, and also between copies.
    public let fileIdentity: String
    /// In the order of names.
    private let tensors: [TensorView]
    private let indices: [String: Int]

    public init(folder: String) throws(CheckpointError) {
        self.folder = folder
        config = try ModelConfig(folder: folder)
        var tensors: [String: TensorView] = [:]
        var files: [MappedFile] = []
        for name in try Self.shardNames(in: folder) {
            let path = folder + "/" + name
            guard Folder.exists(path) else {
                throw .missingFile(path: path, neededFor: "weights that the index lists")
            }
            let shard = try SafetensorsFile(path: path)
            files.append(shard.file)
            for tensor in shard.tensors {
                if let other = tensors.updateValue(tensor, forKey: tensor.name) {
                    let reason = "tensor \(tensor.name.prefix(200)) is also in \(other.file.path)"
                    throw .malformed(path: path, reason: reason)
                }
            }
        }
        let sorted = tensors.values.sorted { $0.name < $1.name }
        self.tensors = sorted
        indices = Dictionary(
            uniqueKeysWithValues: sorted.enumerated().map { ($0.element.name, $0.offset) })
        digest = try Self.digest(folder: folder, tensors: sorted)
        fileIdentity = try Self.identity(digest, files: files, folder: folder)
    }

    /// - Throws: ``CheckpointError/missingTensor(folder:tensor:)``
    public func tensor(_ name: String) throws(CheckpointError) -> TensorView {
        guard let tensor = optionalTensor(name) else {
            throw .missingTensor(folder: folder, tensor: name)
        }
        return tensor
    }

    /// On the disk, of the layers that are computed: routed experts, which are spread over the
    /// workers, and all else. The layer behind the last one is for predicting several tokens.
    public var byteCount: (experts: Int, common: Int) {
        let skipped = "model.layers.\(config.layerCount)."
        var (experts, common) = (0, 0)
        for tensor in tensors where !tensor.name.hasPrefix(skipped) {
            if tensor.name.contains(".experts.") {
                experts += tensor.bytes.count
            } else {
                common += tensor.bytes.count
            }
        }
        return (experts, common)
    }

    func forEachTensor(_ body: (TensorView) -> Void) {
        for tensor in tensors { body(tensor) }
    }

    public func optionalTensor(_ name: String) -> TensorView? {
        indices[name].map { tensors[$0] }
    }

    /// A tensor that must have `shape` and one of `types`.
    public func tensor(
        _ name: String, shape: [Int], types: [TensorType]
    ) throws(CheckpointError) -> TensorView {
        let found = try tensor(name)
        guard found.shape == shape, types.contains(found.type) else {
            let expected = types.map(\.rawValue).joined(separator: " or ") + " \(shape)"
            throw .wrongTensor(
                path: found.file.path, tensor: name, expected: expected, found: found.summary)
        }
        return found
    }

    private static func shardNames(in folder: String) throws(CheckpointError) -> [String] {
        let entries = try Folder.entries(of: folder)
        let indices = entries.filter { $0.hasSuffix(indexSuffix) }
        guard !indices.isEmpty else {
            let shards = entries.filter { $0.hasSuffix(".safetensors") }
            guard !shards.isEmpty else {
                throw .missingFile(path: folder + "/model.safetensors", neededFor: "the weights")
            }
            return shards
        }
        var index = indices[0]
        if indices.count > 1 {
            // Exports of a quantiser may lie beside the original.
            let isQuantised = entries.contains(QuantizationMap.fileName)
            let prefix = isQuantised ? "quant_model_weight" : "model."
            let matching = indices.filter { $0.hasPrefix(prefix) }
            guard let plain = matching.first, matching.count == 1 else {
                let remedy = "leave only one index in the folder"
                throw .unsupported(
                    path: folder, feature: "more than one index (\(indices))", remedy: remedy)
            }
            index = plain
        }
        let path = folder + "/" + index
        guard let map = try ConfigFile(path: path).root["weight_map"], map.kind == .object else {
            throw .malformed(path: path, reason: "the index has no weight_map")
        }
        var names: Set<String> = []
        var unusable: String?
        map.forEachMember { _, value in
            let name = value.string ?? ""
            if name.isEmpty || name.utf8.contains(UInt8(ascii: "/")) { unusable = name }
            names.insert(name)
        }
        if let unusable {
            let reason = "weight_map names '\(unusable.prefix(200))', which is no file here"
            throw .malformed(path: path, reason: reason)
        }
        return names.sorted()
    }

    private static func identity(
        _ digest: String, files: [MappedFile], folder: String
    ) throws(CheckpointError) -> String {
        var hash = FNV1a()
        var text = digest
        for file in files { text += " \(file.bytes.count) \(file.modified)" }
        text.withUTF8 { hash.add(UnsafeRawBufferPointer($0)) }
        let description = folder + "/" + QuantizationMap.fileName
        if Folder.exists(description) {
            let contents = try MappedFile.contents(of: description)
            contents.withUnsafeBytes { hash.add($0) }
        }
        return hash.text
    }

    private static func digest(
        folder: String, tensors: [TensorView]
    ) throws(CheckpointError) -> String {
        var hash = FNV1a()
        let config = try MappedFile.contents(of: folder + "/config.json")
        config.withUnsafeBytes { hash.add($0) }
        for tensor in tensors {
            var line = "\n\(tensor.name)\t\(tensor.type.rawValue)\t\(tensor.shape)"
            line.withUTF8 { hash.add(UnsafeRawBufferPointer($0)) }
            if tensor.name.contains(".experts.") { continue }
            hash.add(UnsafeRawBufferPointer(rebasing: tensor.bytes.prefix(digestedBytes)))
        }
        return hash.text
    }
}

/// Fowler, Noll and Vo's 64-bit hash, variant 1a: for comparison, not for security.
struct FNV1a {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    /// 16 hexadecimal digits.
    var text: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
}
