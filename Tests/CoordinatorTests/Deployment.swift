import Protocol
import Testing

@testable import Coordinator

/// A coordinator core with made-up peers and a made-up clock.
struct Deployment {
    static let lease = Interval.seconds(5)
    static let readyTimeout = Interval.seconds(60)
    static let configuration = [
        ConfigurationEntry(key: "model", value: "/models/tiny"),
        ConfigurationEntry(key: "seed", value: "1"),
    ]

    let worldSize: UInt32
    var core: CoordinatorCore
    var now = Instant(nanoseconds: 1_000_000_000_000)

    /// - Parameter ranks: least and most DP ranks; nil: as many as it begins with.
    init(
        worldSize: UInt32 = 2, tensorParallelSize: UInt32 = 1, ranks: ClosedRange<UInt32>? = nil
    ) {
        self.worldSize = worldSize
        core = CoordinatorCore(
            CoordinatorCore.Settings(
                worldSize: worldSize,
                tensorParallelSize: tensorParallelSize,
                ranksMin: ranks?.lowerBound ?? worldSize / tensorParallelSize,
                ranksMax: ranks?.upperBound ?? worldSize / tensorParallelSize,
                configuration: Self.configuration,
                lease: Self.lease,
                readyTimeout: Self.readyTimeout),
            at: now)
    }

    // MARK: Peers

    /// Gateways have the numbers from 200 on.
    static func identity(_ number: UInt64) -> PeerIdentity {
        [number < 200 ? 1 : 2, UInt8(truncatingIfNeeded: number)]
    }

    static func hello(
        node: String = "a", device: UInt32 = 0, role: PeerRole = .worker,
        declared: [ConfigurationEntry] = []
    ) -> ControlBody {
        .hello(
            Hello(
                role: role, node: node, device: device, pid: 1, softwareVersion: "0.1.0",
                declared: declared))
    }

    /// Where a READY has it, the worker has what it was first told to load.
    static let unknown = GroupPosition(rank: 0, worldSize: .max)

    static func ready(
        _ number: UInt64, digest: String = "same", address: UInt8? = nil,
        position: GroupPosition = unknown
    ) -> ControlBody {
        .ready(
            Ready(
                endpoint: "tcp://w\(number):*", collectivesAddress: [address ?? UInt8(number)],
                modelDigest: digest, blockCount: 10, blockSize: 16,
                position: position))
    }

    static func heartbeat(
        _ stage: WorkerStage = .idle, percent: UInt32 = 0, load: RankLoad = RankLoad()
    ) -> ControlBody {
        .heartbeat(Heartbeat(stage: stage, percent: percent, load: load, tickAge: .zero))
    }

    // MARK: Events

    /// From the peer with that number, which is its identity and its incarnation.
    mutating func say(
        _ number: UInt64, _ body: ControlBody, knowing view: UInt32? = nil
    ) -> [CoordinatorCore.Action] {
        var (known, body): (UInt32, ControlBody) = (0, body)
        if case .ready(let ready) = body {
            // Who says READY has heard of the end of the view before.
            known = core.view.number
            let place = core.membership.peer(Self.identity(number))?.worker ?? 0
            body = .ready(ready.at(GroupPosition(rank: place, worldSize: worldSize)))
        }
        return core.onMessage(
            ControlMessage(
                incarnation: Incarnation(rawValue: number), view: view ?? known, sequence: 1,
                body: body),
            from: Self.identity(number), at: now)
    }

    mutating func wait(_ interval: Interval) -> [CoordinatorCore.Action] {
        now = now + interval
        return core.onTimer(at: now)
    }

    mutating func helloAll() {
        for number in 0..<UInt64(worldSize) { _ = say(number, Self.hello(device: UInt32(number))) }
    }

    /// What the last READY brings.
    @discardableResult
    mutating func readyAll() -> [CoordinatorCore.Action] {
        var last: [CoordinatorCore.Action] = []
        for number in 0..<UInt64(worldSize) { last = say(number, Self.ready(number)) }
        return last
    }

    /// What the last JOINED brings.
    @discardableResult
    mutating func joinAll(view: UInt32) -> [CoordinatorCore.Action] {
        var last: [CoordinatorCore.Action] = []
        for number in 0..<UInt64(worldSize) { last = say(number, .viewJoined(view: view)) }
        return last
    }

    /// All workers in an active view.
    static func active(worldSize: UInt32 = 2) -> Deployment {
        var deployment = Deployment(worldSize: worldSize)
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 1)
        return deployment
    }
}

extension [CoordinatorCore.Action] {
    /// What goes to one peer.
    func bodies(to number: UInt64) -> [ControlBody] {
        compactMap { action in
            guard case .send(Deployment.identity(number), let body) = action else { return nil }
            return body
        }
    }

    func views(to number: UInt64) -> [View] {
        bodies(to: number).compactMap { body in
            guard case .view(let view) = body else { return nil }
            return view
        }
    }

    func refusals(to number: UInt64) -> [Refusal] {
        bodies(to: number).compactMap { body in
            guard case .refuse(let refusal) = body else { return nil }
            return refusal
        }
    }

    func configurations(to number: UInt64) -> [AssignedConfiguration] {
        bodies(to: number).compactMap { body in
            guard case .config(let configuration) = body else { return nil }
            return configuration
        }
    }

    var failures: [String] {
        compactMap { action in
            guard case .fail(let text) = action else { return nil }
            return text
        }
    }
}

extension Ready {
    /// With that position, where it has none.
    fileprivate func at(_ position: GroupPosition) -> Ready {
        guard self.position == Deployment.unknown else { return self }
        return Ready(
            endpoint: endpoint, collectivesAddress: collectivesAddress, modelDigest: modelDigest,
            blockCount: blockCount, blockSize: blockSize, position: position)
    }
}
