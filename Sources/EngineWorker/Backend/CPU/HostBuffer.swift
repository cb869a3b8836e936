internal import CKernels
internal import Glibc

/// Zeroed memory of the host, given back when the object goes. Pages are taken when first touched.
final class HostBuffer {
    /// Of the processors' second page size, on which weights begin.
    static let hugePageBytes = 2 << 20

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

    /// Begins and ends where a huge page may.
    init(hugePages count: Int, purpose: String) throws(BackendError) {
        precondition(count > 0, "\(count) huge pages for \(purpose)")
        let page = Self.hugePageBytes
        byteCount = count * page
        let mapped = mmap(
            nil, byteCount + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw .outOfMemory(bytes: byteCount, purpose: purpose)
        }
        let skipped = (page - Int(bitPattern: mapped) % page) % page
        address = mapped + skipped
        if skipped > 0 { munmap(mapped, skipped) }
        munmap(address + byteCount, page - skipped)
        ck_prefer_huge_pages(address, byteCount)
    }

    deinit { munmap(address, max(byteCount, 1)) }

    func pointer<Element>(to type: Element.Type) -> UnsafeMutablePointer<Element> {
        address.assumingMemoryBound(to: type)
    }
}
