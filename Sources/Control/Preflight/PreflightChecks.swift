internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// What is looked at before each kind of daemon starts. What is judged stands in functions without
/// I/O; where a file of `/proc` or `/sys` is hidden from the unit, nothing is judged.
enum PreflightChecks {
    static func all(of daemon: DaemonKind) -> [PreflightCheck] {
        let own =
            switch daemon {
            case .coordinator: ofCoordinator
            case .gateway: ofGateway
            case .worker: ofWorker
            }
        return own + [
            PreflightCheck(name: "keys") { keys(of: daemon, $0) },
            PreflightCheck(name: "library") { libraries(of: daemon, $0) },
            PreflightCheck(name: "limits") { _ in
                daemon == .gateway ? [HostChecks.descriptors(HostChecks.limitOfDescriptors)] : []
            },
        ]
    }

    private static let ofCoordinator = [
        PreflightCheck(name: "model") { options in
            options.text("model") == nil
                ? [
                    .error(
                        "--model", "no checkpoint is named",
                        "the folder as first argument, or --model")
                ] : []
        },
        PreflightCheck(name: "port") { options in
            [
                port(
                    "--data-parallel-rpc-port", options.requiredText("data-parallel-address"),
                    options.requiredInteger("data-parallel-rpc-port"), mayBePassed: false)
            ].compactMap { $0 }
        },
    ]

    private static let ofGateway = [
        PreflightCheck(name: "port") { options in
            [
                port(
                    "--port", options.requiredText("host"), options.requiredInteger("port"),
                    mayBePassed: true)
            ].compactMap { $0 }
        },
        PreflightCheck(name: "certificate") { certificate($0) },
    ]

    private static let ofWorker = [
        PreflightCheck(name: "device") { options in
            [
                device(
                    options.requiredText("device"), options.requiredInteger("device-index"),
                    isPresent: { access("/dev/davinci\($0)", F_OK) == 0 })
            ]
        },
        PreflightCheck(name: "address") { options in
            let address = options.requiredText("worker-address")
            let coordinator = options.requiredText("data-parallel-address")
            return [
                NetworkChecks.workerAddress(
                    address, isLocal: NetworkProbe.isLocal(address),
                    coordinatorIsElsewhere: !NetworkProbe.isLoopback(coordinator)
                        && !NetworkProbe.isLocal(coordinator))
            ]
        },
        PreflightCheck(name: "network device") { networkDevices($0) },
        PreflightCheck(name: "checkpoint") { checkpoint($0) },
        PreflightCheck(name: "memory") { memory($0) },
        PreflightCheck(name: "shared memory") { options in
            options.requiredText("collectives") == "ucx" ? [] : [HostChecks.anonymousMemory()]
        },
        PreflightCheck(name: "huge pages") { _ in [HostChecks.hugePages()] },
        PreflightCheck(name: "packed weights") { packedWeights($0) },
        PreflightCheck(name: "processor") { options in
            [
                HostChecks.processor(
                    wanted: options.requiredText("kernel-level"), best: HostChecks.bestLevel())
            ]
        },
    ]

    // MARK: Ports and addresses

    /// Whether the daemon can listen there, tried as it will.
    ///
    /// - Parameter mayBePassed: the service manager may hold the port and pass it on.
    private static func port(
        _ option: String, _ host: String, _ port: Int, mayBePassed: Bool
    ) -> Finding? {
        let problem = NetworkProbe.problemListening(host, port)
        let owners = problem == EADDRINUSE ? PortOwners.owners(of: port) : []
        return self.port(
            "\(option) \(port) on \(host)", problem: problem, owners: owners,
            mayBePassed: mayBePassed, isUnit: getenv("INVOCATION_ID") != nil)
    }

    /// - Parameter isUnit: the service manager started this, and may be the one that holds it.
    static func port(
        _ place: String, problem: Int32, owners: [String], mayBePassed: Bool, isUnit: Bool = false
    ) -> Finding {
        switch problem {
        case 0:
            return .ok(place, "free")
        case EADDRINUSE:
            if mayBePassed && owners.allSatisfy({ $0.hasPrefix("systemd ") }) && !owners.isEmpty {
                return .ok(place, "held by systemd, which passes it on")
            }
            if mayBePassed && isUnit && owners == [PortOwners.ofRoot] {
                return .ok(place, "held by root, as the port of a socket unit is")
            }
            let names = owners.isEmpty ? "somebody" : owners.joined(separator: ", ")
            let isKnown = owners.contains { $0.contains(" (") }
            let remedy = "stop that process, or take another port"
            // Of the service manager itself only root sees what it holds.
            if mayBePassed && !isKnown {
                return .warning(
                    place, "held by \(names) that is not to be seen from here",
                    "right if it is this service's socket unit; else \(remedy)")
            }
            return .error(place, "held by \(names)", remedy)
        case EADDRNOTAVAIL:
            return .error(
                place, "this host does not have that address", "an address of this host")
        default:
            return .error(
                place, String(cString: strerror(problem)), "another port, or more privileges")
        }
    }

    private static func networkDevices(_ options: Options) -> [Finding] {
        let devices = options.text("collectives-device") ?? ""
        let known = NetworkProbe.interfaces().map(\.name)
        let ofRDMA = SystemFiles.entries(of: "/sys/class/infiniband")
        return devices.split(separator: ",").map {
            NetworkChecks.collectivesDevice(String($0), known: known + ofRDMA)
        }
    }

    // MARK: Files

    /// The daemon reads them in the same way, and fails with the same words.
    private static func keys(of daemon: DaemonKind, _ options: Options) -> [Finding] {
        let (role, peers, addresses): (KeyRole, [KeyRole], [String]) =
            switch daemon {
            case .coordinator:
                (.coordinator, [.worker, .gateway, .operator], ["data-parallel-address"])
            case .gateway: (.gateway, [.coordinator, .worker], ["data-parallel-address"])
            case .worker:
                (.worker, [.coordinator, .gateway], ["worker-address", "data-parallel-address"])
            }
        let place = options.text("keys").map { "--keys \($0)" } ?? "links"
        do throws(KeyError) {
            _ = try LinkSecurity(options, role: role, peers: peers, addresses: addresses)
            return [.ok(place, "as they should be")]
        } catch {
            return [.error(place, error.description, "")]
        }
    }

    private static func certificate(_ options: Options) -> [Finding] {
        ["ssl-certfile", "ssl-keyfile"].compactMap { name in
            guard let path = options.text(name) else { return nil }
            var status = stat()
            let isThere = stat(path, &status) == 0 && access(path, R_OK) == 0
            return certificate(
                "--\(name) \(path)", isReadable: isThere,
                isOpenToOthers: name == "ssl-keyfile" && status.st_mode & 0o077 != 0)
        }
    }

    static func certificate(_ place: String, isReadable: Bool, isOpenToOthers: Bool) -> Finding {
        if !isReadable {
            return .error(place, "cannot be read", "another path, or its owner and mode")
        }
        if isOpenToOthers {
            return .warning(place, "can be read by others than its owner", "chmod 600")
        }
        return .ok(place, "readable")
    }

    private static func checkpoint(_ options: Options) -> [Finding] {
        // The coordinator names the model, and it need not be there yet.
        guard let folder = options.text("model") else { return [] }
        do throws(CheckpointError) {
            let checkpoint = try Checkpoint(folder: folder)
            return [ModelChecks.digest(checkpoint.digest, folder: folder, others: [])]
        } catch {
            return [.error(folder, "\(error)", "copy the checkpoint to this path")]
        }
    }

    private static func packedWeights(_ options: Options) -> [Finding] {
        guard let folder = options.text("packed-weights-cache") else { return [] }
        var status = stat()
        let isFolder = stat(folder, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        return [
            packedWeights(
                "--packed-weights-cache \(folder)", isFolder: isFolder,
                isWritable: access(folder, W_OK) == 0)
        ]
    }

    static func packedWeights(_ place: String, isFolder: Bool, isWritable: Bool) -> Finding {
        if isFolder && isWritable { return .ok(place, "there") }
        return .warning(
            place, isFolder ? "cannot be written to" : "is no folder",
            "each start packs the weights anew: make it, for the worker's user")
    }

    // MARK: Device and memory

    static func device(_ kind: String, _ index: Int, isPresent: (Int) -> Bool) -> Finding {
        let place = "--device \(kind) --device-index \(index)"
        guard kind == "ascend" else { return .ok(place, "the processors of this host") }
        if isPresent(index) { return .ok(place, "/dev/davinci\(index)") }
        return .error(
            place, "/dev/davinci\(index) is not here",
            "another --device-index; in a container or a unit with PrivateDevices=, pass the device"
        )
    }

    private static func memory(_ options: Options) -> [Finding] {
        let sizes = options.text("model").flatMap { try? ModelChecks.WeightSizes(folder: $0) }
        let worldSize =
            options.requiredInteger("data-parallel-size")
            * options.requiredInteger("tensor-parallel-size")
        return memory(
            HostMemory.current, weights: sizes?.perWorker(of: worldSize) ?? 0,
            cache: options.requiredInteger("kv-cache-memory-bytes"))
    }

    /// - Parameter memory: nil where the unit hides it.
    static func memory(_ memory: ModelChecks.Memory?, weights: Int, cache: Int) -> [Finding] {
        guard let memory, memory.total > 0 else { return [] }
        return [
            ModelChecks.memory(
                memory, weights: weights, cache: cache, workers: 1, areRunning: false)
        ]
    }

    // MARK: Libraries

    private static func libraries(of daemon: DaemonKind, _ options: Options) -> [Finding] {
        var findings = [
            HostChecks.library("libzmq", version: LibraryVersions.zeroMQ(), atLeast: [4, 3, 3])
        ]
        if daemon == .worker {
            findings.append(
                HostChecks.library("UCX", version: LibraryVersions.ucx(), atLeast: [1, 13, 0]))
        }
        if daemon == .gateway && options.text("ssl-certfile") != nil {
            findings.append(
                HostChecks.library(
                    "OpenSSL", version: LibraryVersions.openSSL(), atLeast: [3, 0, 0]))
        }
        return findings
    }
}
