internal import CUCX
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

    /// UCX takes a device that is not there for one that leads nowhere, and says so much later.
    private static func checkDevices(_ names: String?) throws(CollectiveError) {
        for name in (names ?? "").split(separator: ",") where name != "all" {
            // `mlx5_0:1` is a port of an RDMA device.
            let device = String(name.prefix { $0 != ":" })
            if if_nametoindex(device) != 0 { continue }
            if access("/sys/class/infiniband/\(device)", F_OK) == 0 { continue }
            throw .setup(
                reason:
                    "--collectives-device \(name): this host has no such network device; it has "
                    + interfaces().joined(separator: ", "))
        }
    }

    private static func interfaces() -> [String] {
        guard let list = if_nameindex() else { return [] }
        defer { if_freenameindex(list) }
        var names: [String] = []
        var entry = list
        while let name = entry.pointee.if_name {
            names.append(String(cString: name))
            entry += 1
        }
        return names
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
