import DaemonRuntime
import Foundation
import Protocol
import Testing

@Suite struct MailboxTests {
    static let count = 20_000

    /// Two senders and a loop: everything arrives, and in each sender's order.
    @Test func nothingIsLostBetweenThreads() {
        let mailbox = Mailbox<(sender: Int, number: Int)>(capacity: 64)
        for sender in 0..<2 {
            Thread.detachNewThread {
                for number in 0..<Self.count {
                    while !mailbox.post((sender, number)) { sched_yield() }
                }
            }
        }
        let loop = EventLoop()
        var next = [0, 0]
        var inOrder = true
        var largest = 0
        loop.watch(mailbox.descriptor, for: .readable) { _ in
            var taken: [(sender: Int, number: Int)] = []
            mailbox.takeAll(into: &taken)
            largest = max(largest, taken.count)
            for element in taken {
                if element.number != next[element.sender] { inOrder = false }
                next[element.sender] += 1
            }
        }
        #expect(loop.run(until: deadline()) { next == [Self.count, Self.count] })
        #expect(inOrder)
        #expect(largest <= 64, "\(largest) elements waited")
        loop.unwatch(mailbox.descriptor)
    }

    @Test func aFullMailboxTakesNoMore() {
        let mailbox = Mailbox<Int>(capacity: 2)
        #expect(mailbox.post(1) && mailbox.post(2))
        #expect(!mailbox.post(3))
        var taken = [0]
        mailbox.takeAll(into: &taken)
        #expect(taken == [0, 1, 2])
        #expect(mailbox.post(4))
    }

    @Test func aReceiverThatBlocksIsWoken() {
        let mailbox = Mailbox<Int>(capacity: 1)
        Thread.detachNewThread { _ = mailbox.post(7) }
        var taken: [Int] = []
        let end = deadline()
        while taken.isEmpty, MonotonicClock.now() < end {
            mailbox.wait(until: end)
            mailbox.takeAll(into: &taken)
        }
        #expect(taken == [7])
    }

    @Test func waitingEndsAtTheDeadline() {
        let mailbox = Mailbox<Int>(capacity: 1)
        let end = MonotonicClock.now() + .milliseconds(3)
        mailbox.wait(until: end)
        #expect(MonotonicClock.now() >= end)
    }
}
