internal import Bench
internal import DaemonRuntime
internal import EngineBench
internal import Glibc

let usage = """
    usage: phalanx-bench serve [--option value ...]     load on a server
           phalanx-bench engine --model DIR [...]       one engine's steps, in this process
           phalanx-bench exchange [...]                 what ranks of a host exchange
           phalanx-bench serve|engine|exchange --help

    """
let arguments = Array(CommandLine.arguments.dropFirst())

func complain(_ text: String, exitCode: Int32) -> Never {
    StandardStreams.writeError("phalanx-bench: \(text)\n")
    exit(exitCode)
}

if arguments.contains("--version") {
    print("phalanx-bench \(DaemonProcess.version)")
    exit(0)
}
if arguments.contains("--help") || arguments.contains("-h") {
    switch arguments.first {
    case "serve": print(BenchOptionTable.help(), terminator: "")
    case "exchange": print(ExchangeBenchmarkOptions.help, terminator: "")
    case "engine": print(EngineBenchmarkOptions.help, terminator: "")
    default: print(usage, terminator: "")
    }
    exit(0)
}
if arguments.first == "engine" {
    do throws(EngineBenchmarkError) {
        let options = try EngineBenchmarkOptions(arguments: Array(arguments.dropFirst()))
        guard options.ranks.isEmpty else {
            try GroupBenchmark(options).run(StandardStreams.writeOutput)
            exit(0)
        }
        var benchmark = try EngineBenchmark(options)
        StandardStreams.writeError("loaded in \(benchmark.loadSeconds) s\n")
        try benchmark.run {
            StandardStreams.writeOutput((options.printsJSON ? $0.json : $0.line) + "\n")
            if options.printsProfile { StandardStreams.writeOutput($0.profile) }
        }
        exit(0)
    } catch {
        complain(error.description, exitCode: error.exitCode)
    }
}
if arguments.first == "exchange" {
    do throws(EngineBenchmarkError) {
        let options = try ExchangeBenchmarkOptions(arguments: Array(arguments.dropFirst()))
        StandardStreams.writeOutput(try ExchangeBenchmark(options).run())
        exit(0)
    } catch {
        complain(error.description, exitCode: error.exitCode)
    }
}
guard arguments.first == "serve" else {
    complain("what to measure? \(usage)", exitCode: DaemonProcess.usageExitCode)
}
do throws(BenchError) {
    let configuration = try BenchConfiguration(arguments: Array(arguments.dropFirst()))
    let benchmark = try ServeBenchmark(
        configuration: configuration, output: StandardStreams.writeOutput)
    exit(try benchmark.run())
} catch {
    switch error {
    case .commandLine, .option: complain("\(error)", exitCode: DaemonProcess.usageExitCode)
    default: complain("\(error)", exitCode: 1)
    }
}
