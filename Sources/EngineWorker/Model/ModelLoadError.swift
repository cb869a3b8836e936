/// Why a model could not be loaded.
public enum ModelLoadError: Error, Hashable, Sendable, CustomStringConvertible {
    case checkpoint(CheckpointError)
    case backend(BackendError)
    /// The placement was made for another number of experts than the checkpoint has.
    case placement(expected: Int, found: Int)

    public var description: String {
        switch self {
        case .checkpoint(let error): error.description
        case .backend(let error): error.description
        case .placement(let expected, let found):
            "the expert placement is for \(expected) experts, but the checkpoint has \(found); "
                + "all workers must serve the same model"
        }
    }
}

/// How far loading has come.
public struct LoadProgress: Hashable, Sendable {
    public let bytesDone: Int
    public let bytesTotal: Int
}
