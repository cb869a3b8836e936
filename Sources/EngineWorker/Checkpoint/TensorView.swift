/// The element types of safetensors that checkpoints of this family use.
public enum TensorType: String, Hashable, Sendable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case f8e4m3 = "F8_E4M3"
    case f8e5m2 = "F8_E5M2"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u8 = "U8"
    case bool = "BOOL"

    public var size: Int {
        switch self {
        case .f64, .i64: 8
        case .f32, .i32: 4
        case .f16, .bf16, .i16: 2
        case .f8e4m3, .f8e5m2, .i8, .u8, .bool: 1
        }
    }
}

/// One tensor inside a mapped file: row-major, little-endian, at any alignment.
/// Keeps the mapping alive.
public struct TensorView: Sendable {
    public let name: String
    public let type: TensorType
    public let shape: [Int]
    public let file: MappedFile
    /// Place in the file, checked against its length.
    public let range: Range<Int>

    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: file.bytes[range])
    }
    public var count: Int { range.count / type.size }

    public var summary: String { "\(type.rawValue) \(shape)" }

    /// Some rows of a matrix: they lie side by side.
    func rows(_ rows: Range<Int>) -> TensorView {
        precondition(
            shape.count == 2 && rows.lowerBound >= 0 && rows.upperBound <= shape[0],
            "rows \(rows) of \(summary)")
        let rowBytes = shape[1] * type.size
        let start = range.lowerBound + rows.lowerBound * rowBytes
        return TensorView(
            name: name, type: type, shape: [rows.count, shape[1]], file: file,
            range: start..<(start + rows.count * rowBytes))
    }
}
