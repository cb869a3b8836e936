import Protocol

/// Identity under which a peer's messages arrive: role and incarnation, so that a restarted process
/// is another peer.
typealias PeerIdentity = [UInt8]

/// One process as the coordinator knows it: `configured -> ready -> joined`, until it is lost.
///
/// Pure: it reads no clock and owns no socket.
struct Peer: Equatable {
    enum Stage: Equatable {
        /// It has its configuration and loads the model (workers) or serves (gateways).
        case configured
        /// It could join a view.
        case ready(Ready)
        /// It is connected to the other members of this view.
        case joined(Ready, view: UInt32)
    }

    let identity: PeerIdentity
    let incarnation: Incarnation
    let role: PeerRole
    let node: String
    let device: UInt32
    /// Index in the group, for workers.
    let worker: UInt32
    var stage: Stage = .configured
    var lastHeard: Instant
    /// The last heartbeat's, for messages that name who is missing and why.
    var reported: Heartbeat?

    var ready: Ready? {
        switch stage {
        case .configured: nil
        case .ready(let ready), .joined(let ready, _): ready
        }
    }

    /// For people: where it runs and what it does.
    var description: String {
        switch role {
        case .gateway:
            return "gateway on \(node)"
        case .worker:
            var text = "worker \(worker) (node \(node), device \(device))"
            if ready == nil {
                let loading = reported.map { $0.stage == .loading ? " \($0.percent) %" : "" } ?? ""
                text += " is loading the model\(loading)"
            }
            return text
        }
    }
}
