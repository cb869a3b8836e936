import Foundation

@testable import EngineWorker

/// A `collectives-peer` that this test started.
final class PeerProcess {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    let address: [UInt8]

    init(kind: CollectivesKind, rank: Int, worldSize: Int) throws {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let folder = URL(fileURLWithPath: own).deletingLastPathComponent()
        process.executableURL = folder.appendingPathComponent("collectives-peer")
        process.arguments = ["\(kind.rawValue)", "\(rank)", "\(worldSize)"]
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var line: [UInt8] = []
        while let byte = try output.fileHandleForReading.read(upToCount: 1)?.first, byte != 10 {
            line.append(byte)
        }
        let digits = line.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        address = stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(digits[$0] * 16 + digits[$0 + 1])
        }
    }

    func start(with addresses: [[UInt8]]) throws {
        for address in addresses {
            let line = address.map { String(format: "%02x", $0) }.joined() + "\n"
            try input.fileHandleForWriting.write(contentsOf: Data(line.utf8))
        }
    }

    static func addressOfOneThatIsGone() throws -> [UInt8] {
        let peer = try PeerProcess(kind: .sharedMemory, rank: 1, worldSize: 2)
        peer.kill()
        peer.process.waitUntilExit()
        return peer.address
    }

    func kill() {
        if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) }
    }

    deinit {
        kill()
        process.waitUntilExit()
    }
}
