internal import DaemonRuntime

/// How each linear layer of a checkpoint is stored, from `quant_model_description.json` (the
/// format of Ascend's msmodelslim); a folder without that file has no int8 layers.
struct QuantizationMap {
    enum Kind: Hashable {
        case float
        case staticInt8
        case dynamicInt8
    }

    static let fileName = "quant_model_description.json"

    let path: String
    private let kinds: [String: String]

    init(folder: String) throws(CheckpointError) {
        path = folder + "/" + Self.fileName
        guard Folder.exists(path) else {
            kinds = [:]
            return
        }
        var kinds: [String: String] = [:]
        let file = try ConfigFile(path: path)
        file.root.forEachMember { key, value in
            // Numbers and objects describe the file, not a tensor.
            if let kind = value.string { kinds[String(decoding: key, as: UTF8.self)] = kind }
        }
        self.kinds = kinds
    }

    /// The kind of the linear layer `module` (without `.weight`).
    func kind(of module: String) throws(CheckpointError) -> Kind {
        switch kinds[module + ".weight"] {
        case nil, "FLOAT": return .float
        case "W8A8": return .staticInt8
        case "W8A8_DYNAMIC": return .dynamicInt8
        case .some(let other):
            throw .unsupported(
                path: path, feature: "quantisation type \(other.prefix(100)) of \(module)",
                remedy: "use a checkpoint with FLOAT, W8A8 and W8A8_DYNAMIC layers")
        }
    }
}
