/// Splits a `text/event-stream` into the data of its events (WHATWG HTML section 9.2.6), wherever
/// the reads that brought it were cut.
///
/// Comments, other fields and empty events are left out. Lines end with LF, CR LF or CR.
struct EventStreamParser: Sendable {
    static let eventBytesMax = 16 << 20

    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false
    /// The last byte was a CR: an LF that follows belongs to it.
    private var isAfterCarriageReturn = false

    init() {}

    /// - Returns: false when an event is longer than ``eventBytesMax``; the parser is of no further
    ///   use then.
    mutating func receive(_ bytes: [UInt8], _ onEvent: ([UInt8]) -> Void) -> Bool {
        for byte in bytes {
            let isSecondHalf = isAfterCarriageReturn && byte == UInt8(ascii: "\n")
            isAfterCarriageReturn = byte == UInt8(ascii: "\r")
            if isSecondHalf { continue }
            if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") {
                endLine(onEvent)
                continue
            }
            line.append(byte)
            if line.count + data.count > Self.eventBytesMax { return false }
        }
        return true
    }

    /// The stream is over. A last event without the empty line behind it counts too: some servers
    /// end so, and what is cut off in the middle is no JSON.
    mutating func finish(_ onEvent: ([UInt8]) -> Void) {
        if !line.isEmpty { endLine(onEvent) }
        endLine(onEvent)
    }

    private mutating func endLine(_ onEvent: ([UInt8]) -> Void) {
        defer { line.removeAll(keepingCapacity: true) }
        if line.isEmpty {
            if hasData { onEvent(data) }
            data.removeAll(keepingCapacity: true)
            hasData = false
            return
        }
        let name = Array("data".utf8)
        guard line.starts(with: name), line.count == name.count || line[name.count] == 0x3A else {
            return
        }
        var value = line.dropFirst(name.count + 1)
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        if hasData { data.append(UInt8(ascii: "\n")) }
        data += value
        hasData = true
    }
}
