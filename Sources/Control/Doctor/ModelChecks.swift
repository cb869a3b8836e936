internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// The checkpoint, and whether it and the cache fit into this host's memory. The folder is read as
/// a worker reads it: headers and the beginnings of tensors.
enum ModelChecks {
    static let all = [
        DoctorCheck(name: "checkpoint") { context in checkpoint(context) },
        DoctorCheck(name: "memory") { context in
            guard let folder = context.options.text("model"),
                let sizes = try? WeightSizes(folder: folder)
            else { return [] }
            return [memory(sizes, context)]
        },
    ]

    /// Bytes of tensors, as they lie on the disk.
    struct WeightSizes: Hashable {
        /// Of routed experts, which are spread over all workers.
        let experts: Int
        /// What every worker holds.
        let common: Int

        init(experts: Int, common: Int) {
            self.experts = experts
            self.common = common
        }

        init(folder: String) throws(CheckpointError) {
            let checkpoint = try Checkpoint(folder: folder)
            self.init(experts: checkpoint.byteCount.experts, common: checkpoint.byteCount.common)
        }

        /// Experts are as evenly spread as they can be.
        func perWorker(of worldSize: Int) -> Int { common + experts / max(worldSize, 1) }
    }

    // MARK: Checkpoint

    private static func checkpoint(_ context: DoctorContext) -> [Finding] {
        guard let folder = context.options.text("model") else {
            return [
                .note(
                    "--model", "no model is named and no coordinator answers: nothing is checked",
                    "--model FOLDER")
            ]
        }
        let checkpoint: Checkpoint
        do throws(CheckpointError) {
            checkpoint = try Checkpoint(folder: folder)
        } catch {
            return [
                .error(
                    folder, "\(error)", "copy the checkpoint to this path, as on the other hosts")
            ]
        }
        let digests = context.coordinator?.report.workers.filter { !$0.modelDigest.isEmpty } ?? []
        return [digest(checkpoint.digest, folder: folder, others: digests)]
    }

    static func digest(_ own: String, folder: String, others: [PeerStatus]) -> Finding {
        if let other = others.first(where: { $0.modelDigest != own }) {
            return .error(
                folder,
                "digest \(own), and \(DeploymentHealth.name(other)) has \(other.modelDigest)",
                "copy the same model to all hosts: a worker of this host would be refused")
        }
        let same = others.isEmpty ? "" : ", as the \(Readable.plural(others.count, "worker")) here"
        return .ok(folder, "whole, digest \(own)\(same)")
    }

    // MARK: Memory

    struct Memory: Hashable {
        let total: Int
        let available: Int
        /// Of the control group, where it has a limit.
        let groupLimit: Int?
    }

    private static func memory(_ sizes: WeightSizes, _ context: DoctorContext) -> Finding {
        let text = SystemFiles.read("/proc/meminfo") ?? ""
        let memory = Memory(
            total: SystemFiles.kilobytes("MemTotal", in: text) ?? 0,
            available: SystemFiles.kilobytes("MemAvailable", in: text) ?? 0,
            groupLimit: SystemFiles.integer("/sys/fs/cgroup/memory.max"))
        let local = context.localWorkers
        return self.memory(
            memory, weights: sizes.perWorker(of: context.worldSize),
            cache: context.options.requiredInteger("kv-cache-memory-bytes"), workers: local.count,
            areRunning: local.areRunning)
    }

    /// - Parameters:
    ///   - weights: of one worker, in bytes; what is packed otherwise than it lies on the disk
    ///     differs, FP8 becomes twice as much.
    ///   - areRunning: the workers hold their memory already.
    static func memory(
        _ memory: Memory, weights: Int, cache: Int, workers: Int, areRunning: Bool
    ) -> Finding {
        let place = "memory"
        let needed = workers * (weights + cache)
        let limit = min(memory.total, memory.groupLimit ?? .max)
        let text =
            "\(Readable.plural(workers, "worker")) of \(Readable.bytes(weights)) weights and "
            + "\(Readable.bytes(cache)) cache: \(Readable.bytes(needed)) of "
            + "\(Readable.bytes(limit)), \(Readable.bytes(memory.available)) available"
        if needed > limit {
            return .error(
                place, text,
                "fewer workers on this host, a larger --data-parallel-size, or less "
                    + "--kv-cache-memory-bytes")
        }
        if !areRunning && needed > memory.available {
            return .warning(
                place, text, "end what else uses memory, or lower --kv-cache-memory-bytes")
        }
        return .ok(place, areRunning ? text + "; they run" : text)
    }
}
