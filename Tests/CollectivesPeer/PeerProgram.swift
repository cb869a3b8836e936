internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// One member of a group, in a process of its own.
///
/// `collectives-peer KIND RANK WORLDSIZE` prints its address as a line of hexadecimal digits, reads
/// the addresses of all ranks from standard input, one a line, and takes part in gathers of 64
/// bytes until one fails. Why the last one failed goes to standard error.
enum PeerProgram {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, let number = UInt8(arguments[1]),
            let kind = CollectivesKind(rawValue: number), let rank = Int(arguments[2]),
            let worldSize = Int(arguments[3])
        else {
            print("usage: collectives-peer KIND RANK WORLDSIZE")
            exit(2)
        }
        do throws(CollectiveError) {
            try takePart(kind: kind, rank: rank, worldSize: worldSize)
        } catch {
            perror("\(error)")
            exit(1)
        }
    }

    private static func takePart(
        kind: CollectivesKind, rank: Int, worldSize: Int
    ) throws(CollectiveError) {
        var options = CollectivesOptions()
        options.transports = "tcp,self"
        let endpoint = try CollectivesEndpoint(
            kind: kind, worldSizeMax: worldSize, incarnation: 1, options: options)
        print(endpoint.address.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
        fflush(nil)
        var addresses: [[UInt8]] = []
        while addresses.count < worldSize, let line = readLine() { addresses.append(bytes(line)) }
        let group = try endpoint.connect(
            view: 7, rank: rank, addresses: addresses,
            deadline: MonotonicClock.now() + .seconds(20))
        let send = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
        let receive = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 64 * worldSize, alignment: 64)
        send.initializeMemory(as: UInt8.self, repeating: UInt8(rank))
        for tick in UInt64(0)... {
            try group.allGather(
                UnsafeRawBufferPointer(send), into: receive,
                tag: .tickExchange(view: 7, tick: tick),
                deadline: MonotonicClock.now() + .seconds(20))
        }
    }

    private static func bytes(_ line: String) -> [UInt8] {
        let digits = line.compactMap(\.hexDigitValue)
        return stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(digits[$0] * 16 + digits[$0 + 1])
        }
    }
}
