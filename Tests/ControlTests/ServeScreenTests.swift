import Protocol
import Testing

@testable import Control

@Suite struct ServeScreenTests {
    /// What is written to a terminal, or to a file.
    static func shown(isTerminal: Bool, _ body: (ServeScreen) -> Void) -> String {
        var written = ""
        body(
            ServeScreen(
                ControlOutput(
                    isTerminal: isTerminal, write: { written += $0 }, complain: { written += $0 })))
        return written
    }

    static let loading = [
        (name: "worker-0", status: "loading 50 % 100 of 200 bytes"),
        (name: "worker-1", status: "loading 0 % 0 of 200 bytes"),
    ]

    @Test func aLineTakesThePlaceOfProgress() {
        let text = Self.shown(isTerminal: true) {
            $0.progress("a")
            $0.progress("a")
            $0.line("b")
            $0.line("c")
        }
        #expect(text == "\r\u{1B}[Ka\r\u{1B}[Kb\nc\n")
    }

    @Test func whereLinesCannotChangeThereIsNoProgress() {
        let text = Self.shown(isTerminal: false) {
            $0.showLoading(Self.loading, for: .seconds(1))
            $0.line("b")
        }
        #expect(text == "b\n")
    }

    @Test func theBarIsOfAllWorkersAndNeverGoesBack() {
        let text = Self.shown(isTerminal: true) {
            $0.showLoading(Self.loading, for: .seconds(1))
            let later = [
                (name: "worker-0", status: "ready, waiting for the other workers"),
                (name: "worker-1", status: "loading 50 % 100 of 200 bytes"),
            ]
            $0.showLoading(later, for: .seconds(1))
            $0.showLoading([later[0]], for: .seconds(1))
        }
        let parts = text.split(separator: "\r\u{1B}[K").map(String.init)
        #expect(parts.count == 3)
        #expect(parts[0].hasPrefix("loading    [#######.......................] 25 %"))
        #expect(parts[1].hasPrefix("loading    [######################........] 75 %"))
        #expect(parts[2] == "handshake  worker-0: ready, waiting for the other workers")
    }
}
