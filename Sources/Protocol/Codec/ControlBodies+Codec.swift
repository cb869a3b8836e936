internal import CProtocol

/// A field that says which version was chosen. Before there was a choice there was no field.
func chosenVersion(_ field: UInt32) -> UInt32 { field == 0 ? ProtocolVersion.oldest : field }

extension ConfigurationEntry {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__ConfigurationEntry> {
        arena.make { message in
            phalanx__v1__configuration_entry__init(message)
            message.pointee.key = arena.string(key)
            message.pointee.value = arena.string(value)
        }
    }

    init(_ message: Phalanx__V1__ConfigurationEntry) {
        self.init(key: text(message.key), value: text(message.value))
    }
}

extension Hello {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__Hello> {
        arena.make { message in
            phalanx__v1__hello__init(message)
            message.pointee.role = role.rawValue
            message.pointee.node = arena.string(node)
            message.pointee.device = device
            message.pointee.pid = pid
            message.pointee.software_version = arena.string(softwareVersion)
            message.pointee.protocol_min = protocolMin
            message.pointee.protocol_max = protocolMax
            message.pointee.n_declared = declared.count
            message.pointee.declared = arena.messages(declared) { $0.packed($1) }
            message.pointee.worker_plus_one = worker.map { $0 &+ 1 } ?? 0
            message.pointee.start_rank_plus_one = startRank.map { $0 &+ 1 } ?? 0
            message.pointee.device_place = devicePlace
        }
    }

    init(_ message: Phalanx__V1__Hello) throws(CodecError) {
        guard let role = PeerRole(rawValue: message.role) else {
            throw .invalid(message: "Hello", field: "role", value: "\(message.role)")
        }
        self.init(
            role: role,
            node: text(message.node),
            device: message.device,
            pid: message.pid,
            softwareVersion: text(message.software_version),
            declared: try list(
                message.declared, message.n_declared, ConfigurationEntry.init(_:)))
        protocolMin = message.protocol_min
        protocolMax = message.protocol_max
        worker = message.worker_plus_one > 0 ? message.worker_plus_one - 1 : nil
        startRank = message.start_rank_plus_one > 0 ? message.start_rank_plus_one - 1 : nil
        devicePlace = message.device_place
    }
}

extension AssignedConfiguration {
    func packed(
        _ arena: CArena, _ version: UInt32
    ) -> UnsafeMutablePointer<Phalanx__V1__Config> {
        arena.make { message in
            phalanx__v1__config__init(message)
            message.pointee.worker = worker
            message.pointee.dp_rank = dpRank
            message.pointee.tp_rank = tpRank
            message.pointee.n_entries = entries.count
            message.pointee.entries = arena.messages(entries) { $0.packed($1) }
            message.pointee.lease_milliseconds = UInt32(clamping: lease.milliseconds)
            message.pointee.ready_deadline_milliseconds = UInt32(
                clamping: readyDeadline.milliseconds)
            if version >= ProtocolVersion.negotiated {
                message.pointee.protocol_version = protocolVersion
                message.pointee.position = position?.packed(arena)
            }
        }
    }

    init(_ message: Phalanx__V1__Config) throws(CodecError) {
        try require(message.lease_milliseconds > 0, "Config", "lease_milliseconds", "0")
        self.init(
            worker: message.worker,
            dpRank: message.dp_rank,
            tpRank: message.tp_rank,
            entries: try list(message.entries, message.n_entries, ConfigurationEntry.init(_:)),
            lease: .milliseconds(Int(message.lease_milliseconds)),
            readyDeadline: .milliseconds(Int(message.ready_deadline_milliseconds)),
            position: try GroupPosition.optional(message.position, of: "Config"))
        protocolVersion = chosenVersion(message.protocol_version)
    }
}

extension Refusal {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__Refuse> {
        arena.make { message in
            phalanx__v1__refuse__init(message)
            message.pointee.reason = reason.rawValue
            message.pointee.text = arena.string(text)
            message.pointee.n_differences = differences.count
            message.pointee.differences = arena.messages(differences) { difference, arena in
                arena.make { entry in
                    phalanx__v1__configuration_difference__init(entry)
                    entry.pointee.key = arena.string(difference.key)
                    entry.pointee.coordinator_value = arena.string(difference.coordinatorValue)
                    entry.pointee.peer_value = arena.string(difference.peerValue)
                }
            }
        }
    }

    init(_ message: Phalanx__V1__Refuse) throws(CodecError) {
        guard let reason = RefusalReason(rawValue: message.reason) else {
            throw .invalid(message: "Refuse", field: "reason", value: "\(message.reason)")
        }
        self.init(
            reason: reason,
            text: Protocol.text(message.text),
            differences: try list(message.differences, message.n_differences) {
                entry throws(CodecError) in
                ConfigurationDifference(
                    key: Protocol.text(entry.key),
                    coordinatorValue: Protocol.text(entry.coordinator_value),
                    peerValue: Protocol.text(entry.peer_value))
            })
    }
}

extension Ready {
    func packed(_ arena: CArena, _ version: UInt32) -> UnsafeMutablePointer<Phalanx__V1__Ready> {
        arena.make { message in
            phalanx__v1__ready__init(message)
            message.pointee.endpoint = arena.string(endpoint)
            message.pointee.collectives_address = arena.bytes(collectivesAddress)
            message.pointee.model_digest = arena.string(modelDigest)
            message.pointee.block_count = blockCount
            message.pointee.block_size = blockSize
            if version >= ProtocolVersion.negotiated {
                message.pointee.position = position?.packed(arena)
            }
        }
    }

    init(_ message: Phalanx__V1__Ready) throws(CodecError) {
        try require(message.block_count > 0, "Ready", "block_count", "0")
        try require(message.block_size > 0, "Ready", "block_size", "0")
        let positions = UInt64(message.block_count) * UInt64(message.block_size)
        try require(
            positions <= CodecLimits.cachePositionsMax, "Ready", "positions", "\(positions)")
        self.init(
            endpoint: text(message.endpoint),
            collectivesAddress: bytes(message.collectives_address),
            modelDigest: text(message.model_digest),
            blockCount: message.block_count,
            blockSize: message.block_size,
            position: try GroupPosition.optional(message.position, of: "Ready"))
    }
}

extension Member {
    func packed(_ arena: CArena) -> UnsafeMutablePointer<Phalanx__V1__Member> {
        arena.make { message in
            phalanx__v1__member__init(message)
            message.pointee.worker = worker
            message.pointee.dp_rank = dpRank
            message.pointee.tp_rank = tpRank
            message.pointee.incarnation = incarnation.rawValue
            message.pointee.node = arena.string(node)
            message.pointee.endpoint = arena.string(endpoint)
            message.pointee.collectives_address = arena.bytes(collectivesAddress)
            message.pointee.block_count = blockCount
            message.pointee.block_size = blockSize
        }
    }

    init(_ message: Phalanx__V1__Member) throws(CodecError) {
        self.init(
            worker: message.worker,
            dpRank: message.dp_rank,
            tpRank: message.tp_rank,
            incarnation: Incarnation(rawValue: message.incarnation),
            node: text(message.node),
            endpoint: text(message.endpoint),
            collectivesAddress: bytes(message.collectives_address),
            blockCount: message.block_count,
            blockSize: message.block_size)
    }
}

extension View {
    func packed(
        _ arena: CArena, _ version: UInt32
    ) -> UnsafeMutablePointer<Phalanx__V1__View> {
        arena.make { message in
            phalanx__v1__view__init(message)
            message.pointee.number = number
            message.pointee.state = state.rawValue
            message.pointee.n_members = members.count
            message.pointee.members = arena.messages(members) { $0.packed($1) }
            message.pointee.configuration_digest = configurationDigest
            message.pointee.reason = arena.string(reason)
            if version >= ProtocolVersion.negotiated {
                message.pointee.protocol_version = protocolVersion
                message.pointee.has_served = hasServed ? 1 : 0
            }
        }
    }

    init(_ message: Phalanx__V1__View) throws(CodecError) {
        guard let state = State(rawValue: message.state) else {
            throw .invalid(message: "View", field: "state", value: "\(message.state)")
        }
        try require(
            message.n_members <= CodecLimits.membersMax, "View", "members",
            "\(message.n_members) entries")
        let members = try list(message.members, message.n_members, Member.init(_:))
        for (first, second) in zip(members, members.dropFirst()) {
            try require(
                first.worker < second.worker, "View", "members",
                "worker \(second.worker) behind \(first.worker)")
        }
        self.init(
            number: message.number,
            state: state,
            members: members,
            configurationDigest: message.configuration_digest,
            reason: text(message.reason),
            protocolVersion: chosenVersion(message.protocol_version),
            hasServed: message.has_served != 0)
    }
}

extension Heartbeat {
    func packed(_ arena: CArena, _ version: UInt32) -> UnsafeMutablePointer<Phalanx__V1__Heartbeat>
    {
        arena.make { message in
            phalanx__v1__heartbeat__init(message)
            message.pointee.stage = stage.rawValue
            message.pointee.percent = percent
            message.pointee.load = load.packed(arena)
            message.pointee.tick_age_milliseconds = UInt64(max(tickAge.milliseconds, 0))
            if version >= ProtocolVersion.negotiated {
                message.pointee.failed_handshakes = failedHandshakes
                if let wait {
                    message.pointee.n_awaited_workers = wait.workers.count
                    message.pointee.awaited_workers = arena.array(wait.workers)
                    message.pointee.waited_milliseconds = UInt64(max(wait.time.milliseconds, 0))
                }
            }
        }
    }

    init(_ message: Phalanx__V1__Heartbeat) throws(CodecError) {
        guard let stage = WorkerStage(rawValue: message.stage) else {
            throw .invalid(message: "Heartbeat", field: "stage", value: "\(message.stage)")
        }
        guard let load = message.load else { throw .missingBody(message: "Heartbeat.load") }
        let awaited = message.n_awaited_workers
        try require(
            awaited <= CodecLimits.membersMax, "Heartbeat", "awaited_workers", "\(awaited)")
        self.init(
            stage: stage,
            percent: message.percent,
            load: try RankLoad(load.pointee),
            tickAge: Self.interval(message.tick_age_milliseconds),
            failedHandshakes: message.failed_handshakes,
            wait: awaited == 0
                ? nil
                : Wait(
                    workers: list(message.awaited_workers, awaited),
                    time: Self.interval(message.waited_milliseconds)))
    }

    private static func interval(_ milliseconds: UInt64) -> Interval {
        let product = Int64(clamping: milliseconds).multipliedReportingOverflow(by: 1_000_000)
        return Interval(nanoseconds: product.overflow ? .max : product.partialValue)
    }
}
