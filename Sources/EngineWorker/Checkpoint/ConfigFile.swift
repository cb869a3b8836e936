internal import DaemonRuntime

/// A JSON configuration file of a checkpoint, with typed and bounded access to its keys.
struct ConfigFile {
    let path: String
    let root: JSONValue

    init(path: String) throws(CheckpointError) {
        self.path = path
        guard Folder.exists(path) else {
            throw .missingFile(path: path, neededFor: "the model's description")
        }
        let bytes = try MappedFile.contents(of: path)
        do {
            root = try JSONDocument(bytes).root
        } catch {
            throw .malformed(path: path, reason: "not JSON (\(error.reason))")
        }
        guard root.kind == .object else {
            throw .malformed(path: path, reason: "the outermost value is no object")
        }
    }

    /// The value of `key` in `object`; a null counts as absent.
    func value(_ key: String, in object: JSONValue? = nil) -> JSONValue? {
        guard let found = (object ?? root)[key], !found.isNull else { return nil }
        return found
    }

    func integer(
        _ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil
    ) throws(CheckpointError) -> Int {
        guard let found = value(key) else {
            if let fallback { return fallback }
            throw .wrongKey(path: path, key: key, reason: "is missing")
        }
        guard let number = found.integer, range.contains(number) else {
            let reason = "must be a whole number from \(range.lowerBound) to \(range.upperBound)"
            throw .wrongKey(path: path, key: key, reason: reason)
        }
        return number
    }

    func number(
        _ key: String, in object: JSONValue? = nil, range: ClosedRange<Double>,
        default fallback: Double? = nil
    ) throws(CheckpointError) -> Double {
        guard let found = value(key, in: object) else {
            if let fallback { return fallback }
            throw .wrongKey(path: path, key: key, reason: "is missing")
        }
        guard let number = found.double, range.contains(number) else {
            let reason = "must be a number from \(range.lowerBound) to \(range.upperBound)"
            throw .wrongKey(path: path, key: key, reason: reason)
        }
        return number
    }

    func boolean(_ key: String, default fallback: Bool) throws(CheckpointError) -> Bool {
        guard let found = value(key) else { return fallback }
        guard let flag = found.bool else {
            throw .wrongKey(path: path, key: key, reason: "must be true or false")
        }
        return flag
    }

    /// Refuses `key` unless it is absent or one of `accepted`.
    func require(_ key: String, oneOf accepted: [String]) throws(CheckpointError) {
        guard let found = value(key) else { return }
        guard let text = found.string, accepted.contains(text) else {
            let text = found.string ?? "a value that is no string"
            throw .unsupported(
                path: path, feature: "\(key) '\(text.prefix(100))'",
                remedy: "this engine computes \(accepted.joined(separator: ", ")) only")
        }
    }
}
