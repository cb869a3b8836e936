internal import DaemonRuntime
internal import EngineWorker
internal import Glibc

let (options, logger) = DaemonProcess.start(.worker)
do {
    exit(try EngineWorkerService(options: options, logger: logger).run())
} catch {
    logger.error("\(error)")
    exit(1)
}
