import Foundation
import Protocol
import Testing

@testable import DaemonRuntime

@Suite struct LoggerTests {
    /// The lines that `body` logs.
    static func lines(threshold: Logger.Level = .info, _ body: (Logger) -> Void) -> [String] {
        let pipe = Pipe()
        let descriptor = pipe.fileHandleForWriting.fileDescriptor
        body(Logger(daemon: "d", threshold: threshold, descriptor: descriptor))
        pipe.fileHandleForWriting.closeFile()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        return String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    @Test func aLineHasSeverityDaemonMessageAndFields() {
        let lines = Self.lines { logger in
            logger.info("one", ["a": 1, "b": "two words"])
            logger.error("broken\nline")
        }
        #expect(lines == ["info d: one a=1 b=\"two words\"", "error d: broken line"])
    }

    @Test(arguments: Logger.Level.allCases)
    func whatIsLessSevereThanTheThresholdIsDropped(threshold: Logger.Level) {
        let lines = Self.lines(threshold: threshold) { logger in
            logger.error("1")
            logger.warning("2")
            logger.notice("3")
            logger.info("4")
            logger.debug("5")
        }
        #expect(lines.count == Int(threshold.rawValue) - 2)
        #expect(Logger.Level(name: threshold.name) == threshold)
    }

    @Test func whatAnOutsiderProvokesIsLoggedOnceASecond() {
        let lines = Self.lines { logger in
            for _ in 0..<1000 { logger.throttledWarning("noise") }
            logger.throttledWarning("other")
        }
        // A slow machine may need more than a second for the thousand.
        #expect(lines.contains("warning d: other"))
        #expect(lines.filter { $0.contains("noise") }.count < 100)
    }

    @Test func theNextLineSaysHowManyWereLeftOut() {
        var throttle = Logger.Throttle()
        let start = Instant(nanoseconds: 5)
        #expect(throttle.admit("m", at: start) == 0)
        for _ in 0..<7 { #expect(throttle.admit("m", at: start + .milliseconds(999)) == nil) }
        #expect(throttle.admit("m", at: start + .seconds(1)) == 7)
        #expect(throttle.admit("m", at: start + .seconds(2)) == 0)
        #expect(throttle.admit("n", at: start + .seconds(2)) == 0)
    }

    @Test func aFullTableStillAdmitsTheMessagesThatItKnows() {
        var throttle = Logger.Throttle()
        let start = Instant(nanoseconds: 0)
        for number in 0..<Logger.throttledMessagesMax {
            #expect(throttle.admit("m\(number)", at: start) == 0)
        }
        #expect(throttle.admit("one more", at: start) == nil)
        #expect(throttle.admit("m5", at: start + .seconds(1)) == 0)
    }
}
