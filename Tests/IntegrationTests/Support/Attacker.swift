import Foundation
import Protocol
import TestSupport

@testable import DaemonRuntime

/// Somebody who talks to a daemon's sockets: with keys or without, in frames or in bytes.
final class Attacker {
    let loop = EventLoop()
    private let context = ZeroMQContext()
    var random: SeededGenerator
    /// Frames that came back to it, on any of its sockets.
    private(set) var answers: [[UInt8]] = []
    private var sockets: [ZeroMQSocket] = []

    init(_ name: String) { random = .printingSeed(of: name) }

    deinit { for socket in sockets { socket.detach() } }

    func connect(
        _ identity: [UInt8], to endpoint: String, _ security: SocketSecurity
    ) throws -> ZeroMQSocket {
        let socket = try ZeroMQSocket(
            .dealer(identity: identity), context: context, limits: SocketLimits(),
            security: security)
        try socket.connect(endpoint)
        socket.attach(to: loop) { [unowned self] in answers.append(Array($1)) }
        sockets.append(socket)
        return socket
    }

    /// An identity of a role that nobody else has.
    func identity(_ role: UInt8) -> [UInt8] { [role] + random.bytes(16) }

    /// Sends all frames, as fast as the other side takes them; false when it takes no more.
    func send(_ frames: [[UInt8]], on socket: ZeroMQSocket, within seconds: Int = 60) -> Bool {
        var next = frames.startIndex
        let deadline = MonotonicClock.now() + .seconds(seconds)
        while MonotonicClock.now() < deadline {
            while next < frames.endIndex, socket.send(frames[next]) == .sent { next += 1 }
            if next == frames.endIndex { return true }
            _ = loop.run(until: MonotonicClock.now() + .milliseconds(5)) { false }
        }
        return false
    }

    /// Waits for an answer for which `match` holds, and for no answer at all with `nil`.
    func hears(within milliseconds: Int, _ match: ([UInt8]) -> Bool = { _ in true }) -> Bool {
        loop.run(until: MonotonicClock.now() + .milliseconds(milliseconds)) {
            answers.contains(where: match)
        }
    }

    func forgetAnswers() { answers = [] }

    /// Every truncation of a frame, and as many damaged ones with a bit that is another.
    func damaged(_ frame: [UInt8]) -> [[UInt8]] {
        var frames = (0..<frame.count).map { Array(frame.prefix($0)) }
        for index in frame.indices {
            var copy = frame
            copy[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            frames.append(copy)
        }
        return frames
    }

    func noise(_ count: Int, bytesMax: Int = 300) -> [[UInt8]] {
        (0..<count).map { _ in random.bytes(Int.random(in: 0...bytesMax, using: &random)) }
    }

    /// Connections that begin with bytes that are no handshake, or with half of one.
    func sendGreetings(_ count: Int, to port: UInt16) throws {
        // ZMTP 3.1 with CURVE, as a client begins (RFC 37).
        var greeting: [UInt8] = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1]
        greeting += Array("CURVE".utf8) + Array(repeating: 0, count: 64 - greeting.count - 5)
        var connections: [HTTPConnection] = []
        for number in 0..<count {
            let connection = try HTTPConnection(port: port, node: nil)
            var bytes: [UInt8]
            switch number % 4 {
            case 0: bytes = random.bytes(Int.random(in: 1...400, using: &random))
            case 1: bytes = Array(greeting.prefix(Int.random(in: 1...63, using: &random)))
            case 2: bytes = greeting + random.bytes(Int.random(in: 1...400, using: &random))
            default:
                // A command of 2^62 bytes.
                bytes = greeting + [0x06, 0x40, 0, 0, 0, 0, 0, 0, 0] + random.bytes(100)
            }
            // Where the other side has closed already, nothing can be sent any more.
            try? connection.write(bytes)
            connections.append(connection)
            if connections.count > 32 { connections.removeFirst() }
        }
    }
}
