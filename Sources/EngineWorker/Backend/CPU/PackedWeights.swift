internal import Glibc

/// The memory of a CPU backend's packed weights, one part after the other: packed here into memory
/// of this process, or found packed in a file that the workers of a host share.
///
/// The backend asks for the same pieces in the same order in both cases, and writes into them only
/// while ``isFilled`` is false: a file is mapped read-only.
final class PackedWeights {
    /// A part that is being loaded, or was.
    private struct Part {
        var layout = PackedLayout()
        /// One a chunk, or none when `file` has the part.
        var chunks: [HostBuffer] = []
        var file: PackedFile?
        var entry: PackedWeightsCache.Entry?
    }

    private let cache: PackedWeightsCache?
    private var current = Part()
    private var finished: [Part] = []
    private var vectors = Part()
    private var owned: [HostBuffer] = []
    private var tensors: [TensorView] = []

    init(cache: PackedWeightsCache?) { self.cache = cache }

    /// Whether what ``take(byteCount:)`` gives has its contents already.
    var isFilled: Bool { current.file != nil }

    /// - Parameter setting: what else than the part decides about its bytes, in words.
    func begin(_ part: WeightPart, setting: String) {
        precondition(current.layout.pieces.isEmpty, "a part begins inside another")
        guard let cache else { return }
        switch cache.open(part, setting: setting) {
        case .found(let file): current.file = file
        case .missing(let entry): current.entry = entry
        case .unusable: break
        }
    }

    /// All pieces of the part were taken and filled.
    func end() throws(BackendError) {
        if let file = current.file, file.pieces.count != current.layout.pieces.count {
            throw file.foreign
        }
        if let cache, let entry = current.entry, !current.layout.pieces.isEmpty {
            if let file = cache.store(entry, current.layout, current.chunks) {
                // The chunks keep the file's pages; its own mapping goes with it.
                try replaceChunks(by: file)
            }
        }
        // Gives the lock back.
        current.entry = nil
        finished.append(current)
        current = Part()
    }

    /// Memory for as long as this object lives, aligned to a cache line; zeros unless it is filled.
    func take(byteCount: Int) throws(BackendError) -> UnsafeMutableRawPointer {
        guard let file = current.file else { return try Self.take(byteCount, from: &current) }
        let index = current.layout.pieces.count
        let start = current.layout.place(byteCount: byteCount)
        guard index < file.pieces.count, file.pieces[index] == byteCount else {
            throw file.foreign
        }
        return file.address + start
    }

    /// The same with `values` in it.
    func take<Element: BitwiseCopyable>(
        _ values: [Element], paddedTo count: Int
    ) throws(BackendError) -> UnsafeMutablePointer<Element> {
        let memory = try take(byteCount: max(count, 1) * MemoryLayout<Element>.stride)
        return isFilled
            ? memory.assumingMemoryBound(to: Element.self)
            : Self.fill(memory, with: values, paddedTo: count)
    }

    /// Memory outside of all parts, which is never shared: for the small things.
    func keep<Element: BitwiseCopyable>(
        vector values: [Element]
    ) throws(BackendError) -> UnsafeMutablePointer<Element> {
        let byteCount = max(values.count, 1) * MemoryLayout<Element>.stride
        return Self.fill(
            try Self.take(byteCount, from: &vectors), with: values, paddedTo: values.count)
    }

    /// A mapping of its own.
    func own(byteCount: Int, purpose: String) throws(BackendError) -> HostBuffer {
        let buffer = try HostBuffer(byteCount: byteCount, purpose: purpose)
        owned.append(buffer)
        return buffer
    }

    /// Keeps a tensor's mapping alive.
    func keep(_ tensor: TensorView) { tensors.append(tensor) }

    private static func take(
        _ byteCount: Int, from part: inout Part
    ) throws(BackendError) -> UnsafeMutableRawPointer {
        let start = part.layout.place(byteCount: byteCount)
        let chunk = part.layout.chunks[part.layout.chunks.count - 1]
        if part.chunks.count < part.layout.chunks.count {
            part.chunks.append(
                try HostBuffer(
                    hugePages: chunk.byteCount / HostBuffer.hugePageBytes, purpose: "weights"))
        }
        return part.chunks[part.chunks.count - 1].address + (start - chunk.start)
    }

    private static func fill<Element: BitwiseCopyable>(
        _ memory: UnsafeMutableRawPointer, with values: [Element], paddedTo count: Int
    ) -> UnsafeMutablePointer<Element> {
        precondition(values.count <= count, "\(values.count) of \(count)")
        values.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress {
                memory.copyMemory(from: start, byteCount: bytes.count)
            }
        }
        return memory.assumingMemoryBound(to: Element.self)
    }

    /// The file's pages take the places of the private ones, so that pointers stay as they are.
    private func replaceChunks(by file: PackedFile) throws(BackendError) {
        for (chunk, buffer) in zip(current.layout.chunks, current.chunks) {
            try file.map(over: buffer, chunk)
        }
    }
}
