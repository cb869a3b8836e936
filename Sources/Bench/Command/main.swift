internal import Bench
internal import DaemonRuntime
internal import Glibc

let usage = "usage: phalanx-bench serve [--option value ...]; phalanx-bench serve --help\n"
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
    print(arguments.first == "serve" ? BenchOptionTable.help() : usage, terminator: "")
    exit(0)
}
guard arguments.first == "serve" else {
    complain("the one benchmark is \"serve\"; \(usage)", exitCode: DaemonProcess.usageExitCode)
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
