internal import CKernels
internal import DaemonRuntime
internal import Glibc
public import Protocol

/// A folder with files of packed weights, shared by the workers of a host and by later starts.
///
/// A file's name and key say everything that decides about its bytes: checkpoint, part, layout,
/// element types and kernels. A file that does not fit is never used: it is reported, and written
/// again. Whatever goes wrong with the folder, the weights are packed into private memory and
/// serving goes on. One process at a time packs a part; others wait for its file, but not for
/// ever. Files of checkpoints that are gone stay: the folder's owner deletes them.
public final class PackedWeightsCache {
    /// Grows when ``PackedLayout``, `ck_pack` or the order of loading changes.
    static let layoutVersion = 1
    /// For another process that packs the same part.
    public static let patience: Interval = .seconds(300)
    private static let lockPollMilliseconds: Int32 = 20

    /// What happened to a part's file, for the log.
    public struct Report: Hashable, Sendable {
        public enum Event: Hashable, Sendable {
            /// Used as it was found.
            case mapped(byteCount: Int)
            case written(byteCount: Int)
            /// Another process holds the lock.
            case waiting
            /// Packed again, in its place.
            case refused(reason: String)
            /// This process keeps its weights to itself.
            case unusable(reason: String)
        }

        public let path: String
        public let event: Event

        public var isWarning: Bool {
            switch event {
            case .mapped, .written, .waiting: false
            case .refused, .unusable: true
            }
        }

        public var text: String {
            switch event {
            case .mapped(let count): "packed weights are mapped, \(count) bytes of \(path)"
            case .written(let count): "packed weights are written, \(count) bytes to \(path)"
            case .waiting: "waiting for another worker that packs \(path)"
            case .refused(let reason): "packing again: \(path) is not used, \(reason)"
            case .unusable(let reason):
                "packed weights stay in this worker's memory: \(path), \(reason)"
            }
        }
    }

    /// A file that is missing, and the lock under which this process writes it.
    final class Entry {
        let path: String
        let key: String
        private let lock: Int32

        fileprivate init(path: String, key: String, lock: Int32) {
            (self.path, self.key, self.lock) = (path, key, lock)
        }

        /// The kernel gives the lock back with the descriptor, also when the process dies.
        deinit { close(lock) }
    }

    enum Outcome {
        case found(PackedFile)
        case missing(Entry)
        case unusable
    }

    public let folder: String
    private let patience: Interval
    private let report: (Report) -> Void

    /// - Parameter report: called on the loading thread.
    public init(
        folder: String, patience: Interval = PackedWeightsCache.patience,
        report: @escaping (Report) -> Void
    ) {
        self.folder = folder
        self.patience = patience
        self.report = report
    }

    func open(_ part: WeightPart, setting: String) -> Outcome {
        let key =
            "checkpoint=\(part.checkpoint) part=\(part.name) layout=\(Self.layoutVersion) "
            + "panel=\(CK_PANEL) \(setting)"
        var hash = FNV1a()
        Array(key.utf8).withUnsafeBytes { hash.add($0) }
        let path = "\(folder)/\(part.checkpoint)-\(part.name)-\(hash.text).packed"
        if let file = find(path, key, isLast: false) { return .found(file) }
        do throws(PackedFile.Refusal) {
            let entry = Entry(path: path, key: key, lock: try lock(path))
            // Another process may have been faster.
            if let file = find(path, key, isLast: true) { return .found(file) }
            return .missing(entry)
        } catch {
            report(Report(path: path, event: .unusable(reason: "the lock: \(error)")))
            return .unusable
        }
    }

    /// The file as it can be mapped by all; nil: the caller's memory is the only copy.
    func store(_ entry: Entry, _ layout: PackedLayout, _ chunks: [HostBuffer]) -> PackedFile? {
        let temporary = entry.path + ".tmp"
        do throws(PackedFile.Refusal) {
            try PackedFile.write(layout, chunks, key: entry.key, to: temporary)
            guard rename(temporary, entry.path) == 0 else {
                throw .unreadable(operation: "rename", errno: errno)
            }
            let file = try PackedFile(path: entry.path, key: entry.key)
            syncFolder()
            report(Report(path: entry.path, event: .written(byteCount: file.payloadBytes)))
            return file
        } catch {
            unlink(temporary)
            report(Report(path: entry.path, event: .unusable(reason: "\(error)")))
            return nil
        }
    }

    private func find(_ path: String, _ key: String, isLast: Bool) -> PackedFile? {
        do throws(PackedFile.Refusal) {
            let file = try PackedFile(path: path, key: key)
            report(Report(path: path, event: .mapped(byteCount: file.payloadBytes)))
            return file
        } catch {
            // A damaged file is reported once, by the process that has the lock.
            if isLast, error != .absent {
                report(Report(path: path, event: .refused(reason: "\(error)")))
            }
            return nil
        }
    }

    private func lock(_ path: String) throws(PackedFile.Refusal) -> Int32 {
        let descriptor = Glibc.open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, mode_t(0o644))
        guard descriptor >= 0 else { throw .unreadable(operation: "open", errno: errno) }
        let deadline = MonotonicClock.now() + patience
        var isWaiting = false
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR, MonotonicClock.now() < deadline else {
                let failure = errno
                close(descriptor)
                throw .unreadable(operation: "flock", errno: failure)
            }
            if !isWaiting { report(Report(path: path, event: .waiting)) }
            isWaiting = true
            // A lock with a deadline: flock(2) has none, so it is tried again.
            _ = poll(nil, 0, Self.lockPollMilliseconds)
        }
        return descriptor
    }

    /// So that the new name outlives a power failure; without it the file is only packed again.
    private func syncFolder() {
        let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = fsync(descriptor)
        close(descriptor)
    }
}
