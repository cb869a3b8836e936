internal import CUCX
internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// This process's UCX context and worker, and the endpoints to its peers once it has them.
final class UCXWorker: @unchecked Sendable {
    // The handle is used by one thread at a time; creation may happen on another one.
    private(set) var handle: OpaquePointer?
    let address: [UInt8]

    /// How long UCX may take to end what still runs.
    private static let closeNanosecondsMax: Int64 = 200_000_000

    init(options: CollectivesOptions) throws(CollectiveError) {
        try Self.checkDevices(options.networkDevice)
        var text = [CChar](repeating: 0, count: Int(CUCX_ERROR_BYTES))
        let handle = Self.withOptionalText(options.networkDevice) { devices in
            Self.withOptionalText(options.transports) { transports in
                cucx_open(devices, transports, &text)
            }
        }
        guard let handle else { throw .setup(reason: "UCX: \(Self.string(text))") }
        var count = 0
        let bytes = cucx_address(handle, &count)
        guard count <= WorkerAddress.ucxBytesMax else {
            cucx_close(handle, 0)
            throw .setup(
                reason: "UCX address of \(count) bytes, at most \(WorkerAddress.ucxBytesMax); "
                    + "name fewer devices in UCX_NET_DEVICES")
        }
        address = Array(UnsafeBufferPointer(start: bytes, count: count))
        self.handle = handle
    }

    deinit { close() }

    /// By force: every operation has flushed what it sent, and a peer that is gone or stuck
    /// must not hold this worker up.
    func close() {
        guard let handle else { return }
        self.handle = nil
        cucx_close(handle, Self.closeNanosecondsMax)
    }

    /// UCX leaves out a device that is not there or has no carrier, and says much later that nobody
    /// can be reached. One that has just been set up gets a moment for its carrier.
    private static func checkDevices(_ names: String?) throws(CollectiveError) {
        let deadline = MonotonicClock.now() + carrierPatience
        for name in (names ?? "").split(separator: ",") where name != "all" {
            // `mlx5_0:1` is a port of an RDMA device.
            let device = String(name.prefix { $0 != ":" })
            if access("/sys/class/infiniband/\(device)", F_OK) == 0 { continue }
            guard if_nametoindex(device) != 0 else {
                let known = interfaces().map(\.name).joined(separator: ", ")
                throw .setup(
                    reason:
                        "--collectives-device \(name): this host has no such network device; it "
                        + "has \(known)")
            }
            while !interfaces().contains(where: { $0.name == device && $0.isRunning }) {
                guard MonotonicClock.now() < deadline else {
                    throw .setup(
                        reason:
                            "--collectives-device \(name): the device is down, has no carrier or "
                            + "no address: see `ip address show \(device)`")
                }
                // The kernel tells of carriers over netlink alone; this happens once, at a start.
                poll(nil, 0, carrierPollMilliseconds)
            }
        }
    }

    private static let carrierPatience = Interval.seconds(5)
    private static let carrierPollMilliseconds: Int32 = 10

    /// Those with an address, each once.
    private static func interfaces() -> [(name: String, isRunning: Bool)] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var found: [(name: String, isRunning: Bool)] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let address = entry.ifa_addr, let name = entry.ifa_name,
                [AF_INET, AF_INET6].contains(Int32(address.pointee.sa_family))
            else { continue }
            let text = String(cString: name)
            if found.contains(where: { $0.name == text }) { continue }
            found.append((text, entry.ifa_flags & UInt32(IFF_RUNNING) != 0))
        }
        return found
    }

    /// Makes the endpoints. Tags name the receiver's worker and the sender's rank, so that bytes
    /// meant for another worker or attempt match nothing here.
    func connect(
        rank: Int, addresses: [WorkerAddress], tag: OperationTag
    ) throws(CollectiveError) {
        guard let handle, cucx_set_peer_count(handle, UInt32(addresses.count)) == 0 else {
            throw .setup(reason: "UCX: no memory for \(addresses.count) endpoints, or closed")
        }
        for (peer, address) in addresses.enumerated() where peer != rank {
            var text = [CChar](repeating: 0, count: Int(CUCX_ERROR_BYTES))
            let result = address.ucx.withUnsafeBytes { bytes in
                cucx_connect(
                    handle, UInt32(peer), bytes.baseAddress,
                    Self.tag(from: rank, to: address), Self.tag(from: peer, to: addresses[rank]),
                    &text)
            }
            guard result == 0 else {
                throw .peerLost(peer: peer, tag: tag, reason: "UCX: \(Self.string(text))")
            }
        }
    }

    private static func tag(from rank: Int, to address: WorkerAddress) -> UInt64 {
        Digest.of(address.ucx[...]) << 16 | UInt64(rank)
    }

    private static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func withOptionalText<Result>(
        _ text: String?, _ body: (UnsafePointer<CChar>?) -> Result
    ) -> Result {
        guard let text else { return body(nil) }
        return text.withCString(body)
    }
}
