internal import Coordinator
internal import DaemonRuntime
internal import Glibc

let (options, logger) = DaemonProcess.start(.coordinator)
do {
    exit(try CoordinatorService(options: options, logger: logger).run())
} catch {
    logger.error("\(error)")
    exit(1)
}
