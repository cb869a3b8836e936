internal import CKernels
internal import CLinux
internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// What the kernel, the processor and the installed libraries give. What is judged stands in
/// functions without I/O, beside the closures that look.
enum HostChecks {
    static let all = [
        DoctorCheck(name: "huge pages") { _ in [hugePages()] },
        DoctorCheck(name: "shared memory") { context in
            [anonymousMemory(), sharedMemoryFolder(context)].compactMap { $0 }
        },
        DoctorCheck(name: "limits") { _ in limits() },
        DoctorCheck(name: "library") { _ in libraries() },
        DoctorCheck(name: "processor") { context in
            [processor(wanted: context.options.requiredText("kernel-level"), best: bestLevel())]
        },
    ]

    // MARK: Memory of the kernel's kind

    static func hugePages() -> Finding {
        let path = "/sys/kernel/mm/transparent_hugepage/enabled"
        return hugePages(setting: SystemFiles.read(path) ?? "", path: path)
    }

    /// - Parameter setting: such as `always [madvise] never`.
    static func hugePages(setting: String, path: String) -> Finding {
        let chosen = setting.split(separator: "[").last?.split(separator: "]").first ?? ""
        switch (setting.contains("["), chosen) {
        case (true, "always"), (true, "madvise"):
            return .ok(path, "\(chosen)")
        case (true, "never"):
            return .note(
                path, "never: weights and cache lie in pages of 4 KiB",
                "write madvise or always to it: fewer misses of address translation")
        default:
            return .note(path, "this kernel does not say", "")
        }
    }

    /// The rings between the workers of a host are anonymous files that the others open again.
    static func anonymousMemory() -> Finding {
        let place = "anonymous files"
        let remedy = "--collectives ucx, or a container that allows memfd_create and /proc"
        let descriptor = cl_memfd("phalanx-doctor")
        guard descriptor >= 0 else {
            return .error(place, "memfd_create: \(String(cString: strerror(errno)))", remedy)
        }
        defer { close(descriptor) }
        let again = open("/proc/\(getpid())/fd/\(descriptor)", O_RDWR | O_CLOEXEC)
        guard again >= 0 else {
            return .error(
                place, "not opened through /proc: \(String(cString: strerror(errno)))", remedy)
        }
        close(again)
        return .ok(place, "made, and opened through /proc")
    }

    static let sharedMemoryMin = 64 << 20

    /// UCX's own shared memory lies there; Phalanx's does not.
    private static func sharedMemoryFolder(_ context: DoctorContext) -> Finding? {
        let kind = context.options.requiredText("collectives")
        var status = statvfs()
        guard kind != "shared-memory", statvfs("/dev/shm", &status) == 0 else { return nil }
        return sharedMemoryFolder(free: Int(status.f_bavail) * Int(status.f_frsize))
    }

    static func sharedMemoryFolder(free: Int) -> Finding {
        let text = "\(Readable.bytes(free)) free"
        if free >= sharedMemoryMin { return .ok("/dev/shm", text) }
        return .warning(
            "/dev/shm", text + "; UCX wants it between processes of a host",
            "make it larger (docker run --shm-size 1g, or a larger tmpfs)")
    }

    // MARK: Limits

    static let descriptorsMin = 1024
    static let descriptorsGood = 4096

    static var limitOfDescriptors: Int { Int(cl_limit_descriptors()) }

    private static func limits() -> [Finding] {
        let isRDMA = !SystemFiles.entries(of: "/sys/class/infiniband").isEmpty
        return [descriptors(limitOfDescriptors)]
            + (isRDMA ? [lockedMemory(Int(cl_limit_locked_bytes()))] : [])
    }

    static func descriptors(_ count: Int) -> Finding {
        let place = "open files (ulimit -n)"
        let text = "\(count)"
        let remedy = "LimitNOFILE=65536 in the unit, or ulimit -n 65536"
        if count < descriptorsMin {
            return .warning(place, text + "; a gateway takes one a client", remedy)
        }
        if count < descriptorsGood {
            return .note(place, text + "; a gateway takes one a client", remedy)
        }
        return .ok(place, text)
    }

    /// - Parameter bytes: the largest integer where there is no limit.
    static func lockedMemory(_ bytes: Int) -> Finding {
        let place = "locked memory (ulimit -l)"
        if bytes == .max { return .ok(place, "unlimited") }
        return .warning(
            place, "\(Readable.bytes(bytes)), and RDMA registers what it sends",
            "LimitMEMLOCK=infinity in the unit")
    }

    // MARK: Libraries

    private static func libraries() -> [Finding] {
        [
            library("libzmq", version: LibraryVersions.zeroMQ(), atLeast: [4, 3, 3]),
            library("UCX", version: LibraryVersions.ucx(), atLeast: [1, 13, 0]),
            library("OpenSSL", version: LibraryVersions.openSSL(), atLeast: [3, 0, 0]),
        ]
    }

    /// - Parameter version: nil when the library is not found.
    static func library(_ name: String, version: [Int]?, atLeast minimum: [Int]) -> Finding {
        func text(_ numbers: [Int]) -> String {
            numbers.map { "\($0)" }.joined(separator: ".")
        }
        guard let version else {
            return .error(name, "not found", "scripts/install-packages.sh installs it")
        }
        if version.lexicographicallyPrecedes(minimum) {
            return .error(
                name, "version \(text(version)) is older than \(text(minimum))",
                "install a newer one")
        }
        return .ok(name, "version \(text(version))")
    }

    // MARK: Processor

    static let levels = ["reference", "avx2", "avx512", "avx512_bf16"]

    static func bestLevel() -> String {
        let named = [
            (CK_AVX2, "avx2"), (CK_AVX512, "avx512"), (CK_AVX512_BF16, "avx512_bf16"),
        ]
        return named.last { ck_kernels_select(Int32($0.0)) != nil }?.1 ?? "reference"
    }

    static func processor(wanted: String, best: String) -> Finding {
        let place = "--kernel-level \(wanted)"
        let text = "this processor runs \(best)"
        let order = levels.firstIndex(of: best) ?? 0
        if wanted != "auto", let asked = levels.firstIndex(of: wanted), asked > order {
            return .error(place, text, "--kernel-level \(best), or auto")
        }
        if best == "reference" {
            return .warning(
                place, text + " kernels only: it has no AVX2",
                "another processor, for any real load")
        }
        return .ok(place, text)
    }
}
