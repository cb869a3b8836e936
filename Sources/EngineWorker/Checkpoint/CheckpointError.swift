/// Why a checkpoint folder cannot be used: what is wrong, where, and what to do.
public enum CheckpointError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The operating system refused.
    case io(path: String, operation: String, errno: Int32)
    /// A file that must be there is not.
    case missingFile(path: String, neededFor: String)
    /// The file's contents break its format (truncated downloads end here).
    case malformed(path: String, reason: String)
    /// A tensor that the model needs is in no file.
    case missingTensor(folder: String, tensor: String)
    /// A tensor is there with another shape or element type than the configuration implies.
    case wrongTensor(path: String, tensor: String, expected: String, found: String)
    /// A key of a configuration file is missing or outside its range.
    case wrongKey(path: String, key: String, reason: String)
    /// The checkpoint is sound, but asks for something that this engine does not compute.
    case unsupported(path: String, feature: String, remedy: String)

    public var description: String {
        switch self {
        case .io(let path, let operation, let errno):
            "\(path): \(operation) failed with errno \(errno); check that the file exists and "
                + "that this user may read it"
        case .missingFile(let path, let neededFor):
            "\(path) is missing; it is needed for \(neededFor): download the checkpoint again"
        case .malformed(let path, let reason):
            "\(path): \(reason); the file is damaged or cut off: download it again"
        case .missingTensor(let folder, let tensor):
            "\(folder): no file holds tensor \(tensor); the checkpoint is incomplete or of another "
                + "architecture: download it again"
        case .wrongTensor(let path, let tensor, let expected, let found):
            "\(path): tensor \(tensor) is \(found), but config.json implies \(expected); the "
                + "configuration and the weights belong to different models"
        case .wrongKey(let path, let key, let reason):
            "\(path): \(key) \(reason); compare with the configuration that the model's authors "
                + "publish"
        case .unsupported(let path, let feature, let remedy):
            "\(path): \(feature) is not supported; \(remedy)"
        }
    }
}
