/// Why a model could not be loaded.
public enum ModelLoadError: Error, Hashable, Sendable, CustomStringConvertible {
    case checkpoint(CheckpointError)
    case backend(BackendError)
    /// The model has not enough of something for every worker to have a part.
    case layout(String)

    public var description: String {
        switch self {
        case .checkpoint(let error): error.description
        case .backend(let error): error.description
        case .layout(let what): what
        }
    }
}

/// How far loading has come.
public struct LoadProgress: Hashable, Sendable {
    public let bytesDone: Int
    public let bytesTotal: Int
}
