internal import DaemonRuntime
internal import Gateway
internal import Glibc

let (options, logger) = DaemonProcess.start(.gateway)
do {
    exit(try GatewayService(options: options, logger: logger).run())
} catch {
    logger.error("\(error)")
    exit(1)
}
