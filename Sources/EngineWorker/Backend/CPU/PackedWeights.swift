internal import CKernels

/// The memory that a CPU backend's weights are packed into: cut in order from large mappings, so
/// that the kernel can back them with huge pages.
final class PackedWeights {
    static let chunkBytes = 64 << 20
    static let alignment = 64

    private var chunk: HostBuffer?
    private var used = 0
    private var owned: [HostBuffer] = []
    private var tensors: [TensorView] = []

    /// Zeroed memory, aligned to a cache line, for as long as this object lives.
    func take(byteCount: Int) throws(BackendError) -> UnsafeMutableRawPointer {
        let size = (byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
        if let chunk, used + size <= chunk.byteCount {
            defer { used += size }
            return chunk.address + used
        }
        let fresh = try own(byteCount: max(size, Self.chunkBytes), purpose: "weights")
        ck_prefer_huge_pages(fresh.address, fresh.byteCount)
        // What is left of the chunk with more room serves the next ones.
        if chunk.map({ $0.byteCount - used < fresh.byteCount - size }) ?? true {
            (chunk, used) = (fresh, size)
        }
        return fresh.address
    }

    func take<Element: BitwiseCopyable>(
        _ values: [Element], paddedTo count: Int
    ) throws(BackendError) -> UnsafeMutablePointer<Element> {
        precondition(values.count <= count, "\(values.count) of \(count)")
        let memory = try take(byteCount: max(count, 1) * MemoryLayout<Element>.stride)
        values.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress {
                memory.copyMemory(from: start, byteCount: bytes.count)
            }
        }
        return memory.assumingMemoryBound(to: Element.self)
    }

    /// A mapping of its own.
    func own(byteCount: Int, purpose: String) throws(BackendError) -> HostBuffer {
        let buffer = try HostBuffer(byteCount: byteCount, purpose: purpose)
        owned.append(buffer)
        return buffer
    }

    /// Keeps a tensor's mapping alive.
    func keep(_ tensor: TensorView) { tensors.append(tensor) }
}
