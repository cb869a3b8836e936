internal import DaemonRuntime

/// One safetensors file: eight bytes of header length, a JSON header, then the tensors' bytes.
///
/// The header is outside input: every length, offset and type in it is checked here, so that a
/// ``TensorView`` cannot point outside the mapping. Sources: the format's description in the
/// README of huggingface/safetensors; like that library it refuses overlaps and holes.
public struct SafetensorsFile {
    public static let headerBytesMax = 100_000_000
    public static let dimensionsMax = 8

    public let file: MappedFile
    /// In the order of their bytes in the file.
    public let tensors: [TensorView]

    public init(path: String) throws(CheckpointError) {
        let file = try MappedFile(path: path)
        self.file = file
        let prefix = 8
        guard file.bytes.count > prefix else {
            throw .malformed(path: path, reason: "\(file.bytes.count) bytes hold no header")
        }
        let length = UInt64(
            littleEndian: file.bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        guard length <= UInt64(min(Self.headerBytesMax, file.bytes.count - prefix)) else {
            let size = file.bytes.count
            throw .malformed(
                path: path, reason: "a header of \(length) bytes in a file of \(size)")
        }
        let dataStart = prefix + Int(length)
        let header = file.bytes[prefix..<dataStart]
        let document: JSONDocument
        do {
            document = try JSONDocument(Array(header))
        } catch {
            throw .malformed(path: path, reason: "the header is not JSON (\(error.reason))")
        }
        guard let members = document.root.members else {
            throw .malformed(path: path, reason: "the header is no JSON object")
        }
        var tensors: [TensorView] = []
        tensors.reserveCapacity(members.count)
        for (name, value) in members where name != "__metadata__" {
            tensors.append(
                try Self.tensor(named: name, value, in: file, dataStart: dataStart))
        }
        self.tensors = try Self.checked(tensors, in: file, dataStart: dataStart)
    }

    private static func tensor(
        named name: String, _ value: JSONValue, in file: MappedFile, dataStart: Int
    ) throws(CheckpointError) -> TensorView {
        func malformed(_ reason: String) -> CheckpointError {
            .malformed(path: file.path, reason: "tensor \(name.prefix(200)): \(reason)")
        }
        guard let typeName = value["dtype"]?.string else { throw malformed("has no dtype") }
        guard let type = TensorType(rawValue: typeName) else {
            throw malformed("dtype \(typeName.prefix(20)) is unknown")
        }
        guard let dimensions = value["shape"]?.array, dimensions.count <= dimensionsMax else {
            throw malformed("has no usable shape")
        }
        var shape: [Int] = []
        var byteCount = type.size
        for dimension in dimensions {
            guard let size = dimension.integer, size >= 0 else {
                throw malformed("has a dimension that is no size")
            }
            let (product, overflow) = byteCount.multipliedReportingOverflow(by: size)
            guard !overflow else { throw malformed("is larger than memory") }
            byteCount = product
            shape.append(size)
        }
        guard let offsets = value["data_offsets"]?.array, offsets.count == 2,
            let start = offsets[0].integer, let end = offsets[1].integer
        else { throw malformed("has no data_offsets") }
        let dataCount = file.bytes.count - dataStart
        guard start >= 0, start <= end, end <= dataCount else {
            throw malformed("bytes \(start) to \(end) of \(dataCount) that the file has")
        }
        guard end - start == byteCount else {
            throw malformed("\(end - start) bytes for \(typeName) \(shape)")
        }
        return TensorView(
            name: name, type: type, shape: shape, file: file,
            range: (dataStart + start)..<(dataStart + end))
    }

    /// Sorted by place; refuses overlaps, holes and names that come twice.
    private static func checked(
        _ tensors: [TensorView], in file: MappedFile, dataStart: Int
    ) throws(CheckpointError) -> [TensorView] {
        let names = tensors.map(\.name).sorted()
        for (name, next) in zip(names, names.dropFirst()) where name == next {
            throw .malformed(path: file.path, reason: "tensor \(name.prefix(200)) comes twice")
        }
        let sorted = tensors.sorted {
            ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
        }
        var end = dataStart
        for tensor in sorted {
            guard tensor.range.lowerBound == end else {
                let name = tensor.name.prefix(200)
                let reason = "tensor \(name) does not begin where the one before it ends"
                throw .malformed(path: file.path, reason: reason)
            }
            end = tensor.range.upperBound
        }
        guard end == file.bytes.count else {
            let extra = file.bytes.count - end
            throw .malformed(path: file.path, reason: "\(extra) bytes belong to no tensor")
        }
        return sorted
    }
}
