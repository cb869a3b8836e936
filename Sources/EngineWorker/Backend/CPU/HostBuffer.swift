internal import Glibc

/// Zeroed memory of the host, given back when the object goes. Pages are taken when first touched.
final class HostBuffer {
    let address: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int, purpose: String) throws(BackendError) {
        precondition(byteCount >= 0, "\(byteCount) bytes for \(purpose)")
        let mapped = mmap(
            nil, max(byteCount, 1), PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw .outOfMemory(bytes: byteCount, purpose: purpose)
        }
        address = mapped
        self.byteCount = byteCount
    }

    deinit { munmap(address, max(byteCount, 1)) }

    func pointer<Element>(to type: Element.Type) -> UnsafeMutablePointer<Element> {
        address.assumingMemoryBound(to: type)
    }
}
