import Protocol
import TestSupport
import Testing

/// A message type as the checks that every decoder gets see it.
protocol FramedMessage: Hashable, Sendable {
    /// A message that says itself in which version it is written takes no notice of it.
    func encoded(in version: UInt32) -> [UInt8]
    static func decode(_ frame: UnsafeRawBufferPointer) throws(CodecError) -> Self
}

extension ControlMessage: FramedMessage {
    func encoded(in version: UInt32) -> [UInt8] { encoded() }
}
extension GatewayMessage: FramedMessage {
    func encoded(in version: UInt32) -> [UInt8] { encoded() }
}
extension LeaderMessage: FramedMessage {}

extension FramedMessage {
    static func decode(_ bytes: [UInt8]) -> Result<Self, CodecError> {
        bytes.withUnsafeBytes { frame in
            do throws(CodecError) {
                return .success(try decode(frame))
            } catch {
                return .failure(error)
            }
        }
    }
}

/// A message with the bytes that a version of the protocol has for it.
struct GoldenFrame<Message: FramedMessage>: Sendable, CustomTestStringConvertible {
    let name: String
    let message: Message
    var version: UInt32 = 1
    let hex: String

    var testDescription: String { name }

    var bytes: [UInt8] {
        let digits = hex.compactMap(\.hexDigitValue)
        return stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(digits[$0] << 4 | digits[$0 + 1])
        }
    }
}

enum FrameChecks {
    static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef")
        return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }

    static func expectGolden<Message>(_ golden: GoldenFrame<Message>) {
        #expect(
            hex(golden.message.encoded(in: golden.version)) == golden.hex,
            "\(golden.name) is written otherwise")
        #expect(Message.decode(golden.bytes) == .success(golden.message), "\(golden.name)")
    }

    /// A frame is refused, or it is a message that is written and read again without a change.
    ///
    /// - Returns: whether it was a message.
    @discardableResult
    static func expectSane<Message: FramedMessage>(_ bytes: [UInt8], as type: Message.Type) -> Bool
    {
        switch Message.decode(bytes) {
        case .failure(let error):
            #expect(!error.description.isEmpty)
            return false
        case .success(let message):
            let written = message.encoded(in: ProtocolVersion.current)
            // Bytes are compared, because a NaN is not equal to itself.
            guard case .success(let again) = Message.decode(written) else {
                Issue.record("\(hex(bytes)) decodes, and what it is encoded to does not")
                return true
            }
            if again.encoded(in: ProtocolVersion.current) != written {
                Issue.record("\(hex(bytes)) changes when sent on")
            }
            return true
        }
    }

    static func expectEveryDamageIsHandled<Message>(_ golden: GoldenFrame<Message>) {
        let bytes = golden.bytes
        #expect(!bytes.isEmpty)
        for count in bytes.indices { expectSane(Array(bytes.prefix(count)), as: Message.self) }
        for index in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[index] ^= 1 << bit
                expectSane(damaged, as: Message.self)
            }
        }
    }

    /// Random bytes, and pieces of good frames in a random order.
    static func expectNoiseIsHandled<Message>(_ goldens: [GoldenFrame<Message>], rounds: Int) {
        var random = SeededGenerator.printingSeed(of: "noise as \(Message.self)")
        var accepted = 0
        for _ in 0..<rounds {
            var bytes = random.bytes(Int.random(in: 0...64, using: &random))
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                guard let donor = goldens.randomElement(using: &random)?.bytes, !donor.isEmpty
                else {
                    continue
                }
                let start = Int.random(in: 0..<donor.count, using: &random)
                let piece = donor[start..<Int.random(in: start...donor.count, using: &random)]
                bytes.insert(
                    contentsOf: piece, at: Int.random(in: 0...bytes.count, using: &random))
            }
            if expectSane(bytes, as: Message.self) { accepted += 1 }
        }
        #expect(accepted < rounds, "\(accepted) of \(rounds) random frames were taken as messages")
    }
}
