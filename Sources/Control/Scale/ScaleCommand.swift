internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// `phalanxctl scale N`: so many workers on this node, by the service manager's own means.
enum ScaleCommand {
    static let synopsis = (
        arguments: "N", summary: "start or stop this node's worker units until N run"
    )
    static let page = """
        usage: phalanxctl scale N [--dry-run]

        Starts or stops units phalanx-engine-worker@INDEX of this node with systemctl until N of
        them run: the lowest indexes that do not run are started, the highest that do are stopped.
        A worker that stops finishes its sequences or hands them over first; one that starts is in
        the next view, and no stream is interrupted. With tensor parallelism N is a multiple of
        --tensor-parallel-size, else the rest waits.

        What is started or stopped here is so until the next boot; systemctl enable and disable
        decide about that.

          --dry-run                         print the systemctl lines and run nothing
          --timeout SECONDS                 for systemctl to be done (default: 900)

        Exit codes: 0 done; 1 systemctl failed, or not done in time; 64 for a refused command line.

        """
    static let timeoutSecondsDefault = 900
    static let workersMax = 1024
    private static let systemctl = "/usr/bin/systemctl"

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let arguments = try ControlArguments(
            arguments, command: "scale", flags: ["dry-run"], wordsMax: 1,
            timeoutSeconds: timeoutSecondsDefault, installed: nil)
        guard let word = arguments.words.first, let wanted = Int(word),
            (0...workersMax).contains(wanted)
        else {
            throw .usage("scale: how many workers, 0 to \(workersMax)?")
        }
        let deadline = MonotonicClock.now() + arguments.timeout
        let listed = try systemctl(ScalePlan.listing, until: deadline)
        let plan = ScalePlan(wanted: wanted, listing: listed)
        guard !plan.commands.isEmpty else {
            output.write("\(Readable.plural(plan.running.count, "worker")) run already\n")
            return .success
        }
        for command in plan.commands {
            output.write("systemctl \(command.joined(separator: " "))\n")
            if arguments.has("dry-run") { continue }
            for line in try systemctl(command, until: deadline) {
                output.write(TextTable.printable(line) + "\n")
            }
        }
        return .success
    }

    /// What it writes; an error where it fails.
    private static func systemctl(
        _ arguments: [String], until deadline: Instant
    ) throws(ControlError) -> [String] {
        var lines: [String] = []
        let loop = EventLoop()
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        let process = try ChildProcess(
            [systemctl] + arguments, environment: [path, "LC_ALL=C"], loop: loop
        ) { lines.append($0) }
        var end = process.end()
        while end == nil {
            guard MonotonicClock.now() < deadline else {
                process.send(SIGTERM)
                throw .failed("scale: systemctl \(arguments[0]) is not done in time; it goes on")
            }
            _ = loop.run(until: min(MonotonicClock.now() + .milliseconds(50), deadline)) { false }
            end = process.end()
        }
        guard end == .code(0) else {
            let words = lines.isEmpty ? "is there no systemd?" : lines.joined(separator: "; ")
            throw .failed(
                "scale: systemctl \(arguments.joined(separator: " ")): "
                    + TextTable.printable(words))
        }
        return lines
    }
}

/// Which units are to be started and stopped. Pure.
struct ScalePlan: Equatable {
    static let unit = "phalanx-engine-worker@"
    /// Those that run, or are about to.
    static let listing = [
        "list-units", "--plain", "--no-legend", "--full", "--state=active,activating,reloading",
        "\(unit)*.service",
    ]

    /// In order.
    let running: [Int]
    /// For systemctl, in order; none where so many run already.
    let commands: [[String]]

    /// - Parameter listing: what `systemctl list-units` wrote.
    init(wanted: Int, listing: [String]) {
        running = listing.compactMap(Self.index(ofLine:)).sorted()
        let here = Set(running)
        if wanted > here.count {
            let free = (0...).lazy.filter { !here.contains($0) }.prefix(wanted - here.count)
            commands = [["start"] + free.map(Self.name)]
        } else if wanted < here.count {
            // Together, so that the others change once.
            commands = [["stop"] + running.suffix(here.count - wanted).reversed().map(Self.name)]
        } else {
            commands = []
        }
    }

    private static func name(_ index: Int) -> String { "\(unit)\(index).service" }

    private static func index(ofLine line: String) -> Int? {
        guard let name = line.split(separator: " ").first, name.hasPrefix(unit),
            let end = name.lastIndex(of: ".")
        else { return nil }
        return Int(name[name.index(name.startIndex, offsetBy: unit.count)..<end])
    }
}
