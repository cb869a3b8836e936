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
    let pid: UInt32
    let softwareVersion: String
    /// The newest that it and the coordinator speak.
    var protocolVersion = ProtocolVersion.oldest
    /// Index in the group, for workers.
    let worker: UInt32
    var stage: Stage = .configured
    /// The view whose end this worker has to know of before it can be ready again: a READY that
    /// was on its way when the view ended has the address of that view's endpoint.
    var mustKnow: UInt32 = 0
    var lastHeard: Instant
    /// The last heartbeat's, for messages that name who is missing and why.
    var reported: Heartbeat?
    /// Since when it waits for others, by its last heartbeat.
    var waitingSince: Instant?
    /// What a worker has, or is about to have, experts for.
    var position: GroupPosition?
    /// What it was told last to load, until it answers: no experts are certain meanwhile.
    var asked: GroupPosition?
    /// It takes no new sequences, and should be in no further view.
    var isDraining = false
    /// Others have waited for it in vain, and it has not been ready since.
    var isHung = false
    /// Why it goes, once it has nothing left to do but for others.
    var departure: String?
    /// It has kept a view from forming that would have been its first one.
    var isHeldBack = false
    /// How often that has happened since it was in an active view.
    var heldBackCount = 0
    /// The operator who asked that it drain.
    var drainAskedBy: Incarnation?

    /// Whether it could be in the next view.
    var isUsable: Bool { ready != nil && !isDraining && !isHeldBack }

    var ready: Ready? {
        switch stage {
        case .configured: nil
        case .ready(let ready), .joined(let ready, _): ready
        }
    }

    /// For people: which one it is and where it runs.
    var description: String {
        switch role {
        case .gateway: "gateway on \(node)"
        case .worker: "worker \(worker) (node \(node), device \(device))"
        }
    }

    /// Why a worker that is not ready is waited for.
    var missingDescription: String {
        if isHung { return "\(description) hangs: others have waited for it in vain" }
        guard let reported, reported.stage == .loading else { return "\(description) is not ready" }
        return "\(description) is loading the model, \(reported.percent) %"
    }
}
