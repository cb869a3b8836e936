import Foundation

/// Two nodes: network namespaces of their own, `a` with 10.77.0.1 and `b` with 10.77.0.2, joined by
/// a pair of virtual devices, or by a relay with delay and loss. They go with this object.
final class NodeNetwork {
    enum Link {
        case direct
        /// Each way; TCP segments to `blockedPorts` are lost all.
        case relay(delayMilliseconds: Double, lossPercent: Double, blockedPorts: [UInt16] = [])
    }

    struct Node: Sendable {
        let name: String
        let address: String
        let space: String
    }

    /// Why this machine cannot have one; nil where it can.
    static let obstacle: String? = {
        if geteuid() != 0 { return "network namespaces need root" }
        guard FileManager.default.isExecutableFile(atPath: program) else {
            return "\(program) is missing: install iproute2"
        }
        let name = "phalanx-probe-\(getpid())"
        guard (try? ip(["netns", "add", name])) != nil else {
            return "this kernel or container allows no network namespaces"
        }
        _ = try? ip(["netns", "delete", name])
        guard FileManager.default.isReadableFile(atPath: "/dev/net/tun") else {
            return "there is no /dev/net/tun"
        }
        return nil
    }()

    static let program = "/usr/sbin/ip"
    static let device = "phalanx0"

    let a: Node
    let b: Node
    private var relay: RunningDaemon?

    init(_ link: Link = .direct) throws {
        let mark = "\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        a = Node(name: "node-a", address: "10.77.0.1", space: "phalanx-a-\(mark)")
        b = Node(name: "node-b", address: "10.77.0.2", space: "phalanx-b-\(mark)")
        for node in [a, b] { try Self.ip(["netns", "add", node.space]) }
        switch link {
        case .direct:
            try Self.ip(
                ["-n", a.space, "link", "add", Self.device, "type", "veth"]
                    + ["peer", "name", Self.device, "netns", b.space])
        case .relay(let delay, let loss, let ports):
            let relay = try RunningDaemon(
                "relay", "network-relay",
                [
                    a.space, b.space, Self.device, "\(Int(delay * 1000))", "\(Int(loss * 10))", "7",
                ] + ports.map { "\($0)" })
            guard relay.line(containing: "ready", within: 10) != nil else {
                throw CellError(description: "no relay:\n\(relay.log)")
            }
            self.relay = relay
        }
        for node in [a, b] {
            try Self.ip(
                ["-n", node.space, "address", "add", "\(node.address)/24", "dev", Self.device])
            for device in [Self.device, "lo"] {
                try Self.ip(["-n", node.space, "link", "set", device, "up"])
            }
        }
    }

    deinit {
        for node in [a, b] { _ = try? Self.ip(["netns", "delete", node.space]) }
    }

    @discardableResult
    private static func ip(_ arguments: [String]) throws -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw CellError(description: "ip \(arguments.joined(separator: " ")): \(text)")
        }
        return text
    }
}
