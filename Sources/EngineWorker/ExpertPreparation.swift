internal import DaemonRuntime
internal import Protocol

/// Has the experts for a position in the next view ready while this view goes on: they are loaded
/// on a thread of their own, one position at a time, the last one that was asked for.
///
/// Belongs to the engine thread.
final class ExpertPreparation {
    private let engine: Engine
    private let tensorParallelSize: Int
    private let tpRank: Int
    private let commands: Mailbox<EngineCommand>
    private let emit: (EngineEvent) -> Void
    private var wanted: GroupPosition?
    private var loading: GroupPosition?
    private var thread: NamedThread?

    init(
        _ engine: Engine, _ configuration: EngineConfiguration, _ commands: Mailbox<EngineCommand>,
        emit: @escaping (EngineEvent) -> Void
    ) {
        self.engine = engine
        self.commands = commands
        self.emit = emit
        tensorParallelSize = configuration.layout.tensorParallelSize
        tpRank = configuration.layout.tpRank
    }

    /// The coordinator repeats itself until it is answered.
    func onPrepare(_ position: GroupPosition) {
        wanted = position
        if position == engine.nextPosition { return answer(position) }
        if position == engine.layout.position {
            engine.prepare(nil)
            return answer(position)
        }
        if loading == nil { load(position) }
    }

    /// READY says what this worker has: what is loaded still must not take its place behind it. The
    /// next plan asks anew.
    func onViewEnded() { wanted = nil }

    func onLoaded(_ share: ExpertShare, failure: String?) {
        thread?.join()
        thread = nil
        loading = nil
        let position = share.layout.position
        guard position == wanted else {
            // Asked for something else meanwhile.
            if let wanted { onPrepare(wanted) }
            return
        }
        if let failure { return answer(position, failure) }
        engine.prepare(share)
        answer(position)
    }

    private func load(_ position: GroupPosition) {
        guard let layout = ParallelLayout(position, tensorParallelSize: tensorParallelSize),
            layout.tpRank == tpRank
        else {
            return answer(position, "it is TP rank \(tpRank) of \(tensorParallelSize)")
        }
        // Two divisions are in memory at once, and not three.
        engine.prepare(nil)
        let share: ExpertShare
        do throws(ModelLoadError) {
            share = try engine.makeShare(for: layout)
        } catch {
            return answer(position, "\(error)")
        }
        loading = position
        let (load, commands) = (engine.shareLoader, commands)
        thread = NamedThread("experts") {
            var failure: String?
            do throws(ModelLoadError) {
                try load(share)
            } catch {
                failure = "\(error)"
            }
            // Lost only when the engine takes no commands, which ends the process.
            _ = commands.post(.shareLoaded(share, failure: failure))
        }
    }

    private func answer(_ position: GroupPosition, _ failure: String = "") {
        wanted = nil
        emit(.prepared(position, failure: failure))
    }
}
