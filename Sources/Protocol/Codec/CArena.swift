internal import CProtocol
internal import Glibc

/// The C side of one message while it is packed: strings, arrays and sub-messages that are freed
/// together when the arena goes.
final class CArena {
    private var allocations: [UnsafeMutableRawPointer] = []

    deinit {
        for allocation in allocations { allocation.deallocate() }
    }

    func make<T>(_ initialize: (UnsafeMutablePointer<T>) -> Void) -> UnsafeMutablePointer<T> {
        let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
        memset(pointer, 0, MemoryLayout<T>.size)
        allocations.append(UnsafeMutableRawPointer(pointer))
        initialize(pointer)
        return pointer
    }

    func array<T>(_ values: [T]) -> UnsafeMutablePointer<T>? {
        guard !values.isEmpty else { return nil }
        let pointer = UnsafeMutablePointer<T>.allocate(capacity: values.count)
        pointer.initialize(from: values, count: values.count)
        allocations.append(UnsafeMutableRawPointer(pointer))
        return pointer
    }

    /// `[message]` as protobuf-c wants it: an array of pointers.
    func messages<Value, C>(
        _ values: [Value], _ convert: (Value, CArena) -> UnsafeMutablePointer<C>
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<C>?>? {
        array(values.map { convert($0, self) })
    }

    func string(_ text: String) -> UnsafeMutablePointer<CChar> {
        // A NUL inside would cut the text on the other side.
        let bytes =
            text.utf8.map { $0 == 0 ? CChar(bitPattern: 0x3F) : CChar(bitPattern: $0) } + [0]
        let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        pointer.initialize(from: bytes, count: bytes.count)
        allocations.append(UnsafeMutableRawPointer(pointer))
        return pointer
    }

    func bytes(_ values: [UInt8]) -> ProtobufCBinaryData {
        ProtobufCBinaryData(len: values.count, data: array(values))
    }

    /// The frame of `message`, which is any generated message struct.
    static func pack<C>(_ message: UnsafeMutablePointer<C>) -> [UInt8] {
        message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) { base in
            let byteCount = protobuf_c_message_get_packed_size(base)
            return [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initializedCount in
                initializedCount =
                    buffer.baseAddress.map { protobuf_c_message_pack(base, $0) } ?? 0
            }
        }
    }
}

/// A list of protobuf-c as a Swift array.
func list<C, Value>(
    _ pointer: UnsafeMutablePointer<UnsafeMutablePointer<C>?>?, _ count: Int,
    _ convert: (C) throws(CodecError) -> Value
) throws(CodecError) -> [Value] {
    guard let pointer, count > 0 else { return [] }
    var values: [Value] = []
    values.reserveCapacity(count)
    for index in 0..<count {
        guard let entry = pointer[index] else { continue }
        values.append(try convert(entry.pointee))
    }
    return values
}

func list<Value>(_ pointer: UnsafeMutablePointer<Value>?, _ count: Int) -> [Value] {
    Array(UnsafeBufferPointer(start: pointer, count: pointer == nil ? 0 : count))
}

func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String {
    pointer.map { String(cString: $0) } ?? ""
}

func bytes(_ data: ProtobufCBinaryData) -> [UInt8] { list(data.data, data.len) }

func require(
    _ condition: Bool, _ message: String, _ field: String, _ value: @autoclosure () -> String
) throws(CodecError) {
    if !condition { throw .invalid(message: message, field: field, value: value()) }
}
