internal import DaemonRuntime
internal import Protocol

/// The engine thread: takes commands, runs ticks while the group is running, and sleeps otherwise.
final class EngineThread {
    private let commands: Mailbox<EngineCommand>
    private let events: Mailbox<EngineEvent>
    private let progress: EngineProgress
    private var taken: [EngineCommand] = []
    private var engine: Engine?
    private var configuration: EngineConfiguration?
    private var endpoint: CollectivesEndpoint?
    private var preparation: ExpertPreparation?
    private var stopped = false

    init(commands: Mailbox<EngineCommand>, events: Mailbox<EngineEvent>, progress: EngineProgress) {
        self.commands = commands
        self.events = events
        self.progress = progress
    }

    func run() {
        while !stopped {
            let now = MonotonicClock.now()
            let patience = engine?.patience(at: now) ?? .seconds(3600)
            if patience > .zero { commands.wait(until: now + patience) }
            progress.advance()
            // A tick that follows a tick makes no system call to find that nobody wants anything.
            if patience > .zero || !commands.isEmpty {
                taken.removeAll(keepingCapacity: true)
                commands.takeAll(into: &taken)
                for command in taken { perform(command) }
            }
            engine?.lookForWork(at: MonotonicClock.now())
            if let engine, engine.isRunning { engine.step() }
        }
        endpoint?.close()
    }

    private func perform(_ command: EngineCommand) {
        switch command {
        case .load(let configuration): load(configuration)
        case .connect(let view, let rank): connect(view, rank)
        case .prepare(let position): preparation?.onPrepare(position)
        case .shareLoaded(let share, let failure): preparation?.onLoaded(share, failure: failure)
        case .activate(let view): engine?.activate(view: view)
        case .leaveView:
            engine?.leaveView()
            preparation?.onViewEnded()
            standBy()
        case .handBack(let reason): engine?.handBack(reason)
        case .wake(let view, let fromTick): engine?.wake(view: view, fromTick: fromTick)
        case .submit(let id, let request):
            guard let engine else { return emit(.rejected(id, .otherView, "loading")) }
            engine.submit(id, request)
        case .cancel(let id): engine?.cancel(id)
        case .limitWaiting(let most): engine?.limitWaiting(to: most)
        case .stop: stopped = true
        }
    }

    private func load(_ configuration: EngineConfiguration) {
        self.configuration = configuration
        do throws(EngineLoadError) {
            let loaded = try EngineLoader.load(configuration, progress: progress) {
                [unowned self] events in emit(events)
            }
            engine = loaded.engine
            preparation = ExpertPreparation(loaded.engine, configuration, commands) {
                [unowned self] event in emit(event)
            }
            emit(.loaded(loaded.facts))
            standBy()
        } catch {
            emit(.failed(error.description))
        }
    }

    /// Opens a new endpoint for the next view; the one before belongs to a view that is over.
    private func standBy() {
        guard let configuration, let engine else { return }
        endpoint?.close()
        endpoint = nil
        do throws(CollectiveError) {
            var options = CollectivesOptions()
            options.networkDevice = configuration.collectivesDevice
            let endpoint = try CollectivesEndpoint(
                kind: configuration.collectives,
                worldSizeMax: CollectiveLimits.worldSizeMax,
                incarnation: MonotonicClock.randomUInt64(),
                options: options,
                waits: progress.waits)
            self.endpoint = endpoint
            emit(.standby(collectivesAddress: endpoint.address, engine.nextPosition))
        } catch {
            emit(.failed("collectives: \(error.description)"))
        }
    }

    private func connect(_ view: View, _ rank: Int) {
        guard let endpoint, let engine, let configuration else { return }
        do throws(CollectiveError) {
            let collectives = try endpoint.connect(
                view: view.number,
                rank: rank,
                addresses: view.members.map(\.collectivesAddress),
                deadline: MonotonicClock.now() + configuration.exchangeTimeout)
            _ = engine.join(
                ViewGroup(
                    view: view.number, protocolVersion: view.protocolVersion,
                    collectives: collectives, members: view.members))
        } catch {
            let workers = error.peers.filter(view.members.indices.contains).map {
                view.members[$0].worker
            }
            let reason = "\(error.description)\(whereabouts(of: workers, in: view, configuration))"
            emit(
                .viewBroken(
                    view: view.number, tick: 0, workers: workers, reason: reason,
                    isTimeout: error.isTimeout))
        }
    }

    /// Where the workers are that did not answer, and from where they were tried.
    private func whereabouts(
        of workers: [UInt32], in view: View, _ configuration: EngineConfiguration
    ) -> String {
        let missing = view.members.filter { workers.contains($0.worker) }
        guard let first = missing.first else { return "" }
        let names = missing.map { "worker \($0.worker) on \($0.node), \($0.endpoint)" }
        let device = configuration.collectivesDevice ?? "every device"
        return " (\(names.joined(separator: "; ")); tried "
            + "\(NetworkRoute.description(toward: first.endpoint)), UCX uses \(device): check the "
            + "firewall between them, --worker-address and --collectives-device)"
    }

    /// The link thread empties the mailbox all the time; when it does not, the engine has nobody to
    /// work for, so it waits.
    private func emit(_ said: [EngineEvent]) {
        while !events.post(contentsOf: said) {
            commands.wait(until: MonotonicClock.now() + .milliseconds(1))
        }
    }

    private func emit(_ event: EngineEvent) { emit([event]) }
}
