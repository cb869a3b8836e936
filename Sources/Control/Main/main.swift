internal import Control
internal import Glibc

let exitCode = ControlProgram.run(Array(CommandLine.arguments.dropFirst()), .standard())
exit(exitCode.rawValue)
