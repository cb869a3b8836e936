import Protocol
import Testing

@testable import Control

@Suite struct DrainProgressTests {
    private func progress() -> DrainProgress {
        DrainProgress(
            DrainReport(
                dpRank: 1, isAccepted: true, text: "", incarnations: [Incarnation(rawValue: 101)]))
    }

    @Test func eachChangeOfTheSequencesIsALine() {
        var progress = progress()
        var report = ReportFixture.active()
        #expect(progress.onReport(report).isEmpty)
        report.peers[1].stage = .draining
        report.peers[1].load.running = 2
        #expect(progress.onReport(report) == ["draining: 2 sequences left"])
        #expect(progress.onReport(report).isEmpty)
        report.peers[1].load.running = 1
        #expect(progress.onReport(report) == ["draining: 1 sequence left"])
        #expect(!progress.isOver)
    }

    @Test func theEndSaysWhatComesAfterIt() {
        var progress = progress()
        let lines = progress.onReport(ReportFixture.retired())
        #expect(progress.isOver)
        #expect(lines[0] == "DP rank 1 has left")
        #expect(lines[1].hasPrefix("the view ended: worker 1"))
        #expect(lines[2].hasPrefix("the other ranks go on without it"))
    }

    @Test func aReplacementThatIsThereAlreadyIsTold() {
        var progress = progress()
        var report = ReportFixture.active()
        report.view = 5
        report.peers[1].incarnation = Incarnation(rawValue: 999)
        let lines = progress.onReport(report)
        #expect(progress.isOver)
        #expect(lines.last == "view 5 is active with 2 workers")
    }
}
