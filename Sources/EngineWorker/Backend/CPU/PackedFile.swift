internal import CKernels
internal import Glibc

/// A file of packed weights, mapped read-only and shared: the machine holds its pages once, however
/// many processes use them.
///
/// A header (64-bit words in the machine's order: magic, header bytes, payload bytes, bytes of the
/// key, number of pieces, checksum; then the key's text, and the size of each piece), padded to
/// huge pages, and then the pieces where ``PackedLayout`` puts them. The checksum covers the header
/// alone: damage inside the weights is not noticed. The file must not be cut off while it is
/// mapped: the kernel answers reads beyond the end with SIGBUS. It is written under another name
/// and only renamed when it is whole.
final class PackedFile {
    static let magic: UInt64 = 0x3130_4b43_4150_4850  // "PHPACK01"
    static let keyBytesMax = 4096
    private static let fixedWords = 6
    private static let headerBytesMax = 1 << 30
    /// Between two waits for the disk, so that little is left for the last.
    private static let syncBytes = 256 << 20

    /// Why a file is not used.
    enum Refusal: Error, Hashable, CustomStringConvertible {
        case absent
        case unreadable(operation: String, errno: Int32)
        case damaged(String)

        var description: String {
            switch self {
            case .absent: "there is none"
            case .unreadable(let operation, let number):
                "\(operation): \(SystemText.of(number))"
            case .damaged(let what): what
            }
        }
    }

    let path: String
    let pieces: [Int]
    /// Of the first piece.
    let address: UnsafeMutableRawPointer
    let payloadBytes: Int
    private let headerBytes: Int
    private let descriptor: Int32
    private let mapping: UnsafeMutableRawPointer
    private let mappedBytes: Int

    /// Its header fits what was asked for by name, but not what the model needs.
    var foreign: BackendError {
        .device("\(path) holds other weights than this model's: delete it")
    }

    /// Opens, checks and maps a whole file, and waits until its pages are in memory.
    init(path: String, key: String) throws(Refusal) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw errno == ENOENT ? .absent : .unreadable(operation: "open", errno: errno)
        }
        do throws(Refusal) {
            let header = try Self.header(of: descriptor, key: key)
            (pieces, headerBytes, payloadBytes) =
                (header.pieces, header.headerBytes, header.payloadBytes)
            (mapping, mappedBytes) = try Self.map(
                descriptor, from: headerBytes, byteCount: payloadBytes)
        } catch {
            close(descriptor)
            throw error
        }
        self.path = path
        self.descriptor = descriptor
        let page = HostBuffer.hugePageBytes
        address = mapping + (page - Int(bitPattern: mapping) % page) % page
        let failure = ck_populate(address, payloadBytes)
        guard failure == 0 else { throw .unreadable(operation: "read", errno: failure) }
    }

    deinit {
        munmap(mapping, mappedBytes)
        close(descriptor)
    }

    /// Maps the file's bytes of a chunk in the place of the memory that they were written from.
    func map(over buffer: HostBuffer, _ chunk: PackedLayout.Chunk) throws(BackendError) {
        precondition(chunk.byteCount == buffer.byteCount, "\(chunk) \(buffer.byteCount)")
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        // Beyond the file's end there are no pages; nobody has pointers there.
        let byteCount = (chunk.used + page - 1) / page * page
        let mapped = mmap(
            buffer.address, byteCount, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor,
            off_t(headerBytes + chunk.start))
        guard let mapped, mapped != MAP_FAILED else {
            throw .device("\(path) cannot be mapped: \(SystemText.of(errno))")
        }
        ck_prefer_huge_pages(mapped, byteCount)
        ck_release_pages(mapped + byteCount, buffer.byteCount - byteCount)
        let failure = ck_populate(mapped, byteCount)
        guard failure == 0 else {
            throw .device("\(path) cannot be read: \(SystemText.of(failure)); delete it")
        }
    }

    // MARK: Reading

    private struct Header {
        let headerBytes: Int
        let payloadBytes: Int
        let pieces: [Int]
    }

    private static func header(of descriptor: Int32, key: String) throws(Refusal) -> Header {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .unreadable(operation: "fstat", errno: errno)
        }
        let fileBytes = Int(status.st_size)
        let fixed = try words(of: descriptor, at: 0, count: fixedWords, fileBytes: fileBytes)
        guard fixed[0] == magic else { throw .damaged("it is no file of packed weights") }
        let (headerBytes, payloadBytes) = (fixed[1], fixed[2])
        let (keyBytes, count) = (fixed[3], fixed[4])
        guard headerBytes <= headerBytesMax, keyBytes <= keyBytesMax,
            headerBytes % UInt64(HostBuffer.hugePageBytes) == 0,
            count <= headerBytes / 8,
            UInt64(fixedWords * 8) + (keyBytes + 7) / 8 * 8 + count * 8 <= headerBytes
        else { throw .damaged("its header is damaged") }
        guard payloadBytes > 0, payloadBytes <= UInt64(Int.max) - headerBytes,
            UInt64(fileBytes) == headerBytes + payloadBytes
        else {
            throw .damaged("it has \(fileBytes) bytes, not those that its header says: cut off")
        }
        let keyWords = Int(keyBytes + 7) / 8
        let rest = try words(
            of: descriptor, at: fixedWords * 8, count: keyWords + Int(count),
            fileBytes: fileBytes)
        guard checksum(fixed.dropLast() + rest) == fixed[fixedWords - 1] else {
            throw .damaged("its header is damaged")
        }
        let found = rest.prefix(keyWords).withUnsafeBytes {
            String(decoding: $0.prefix(Int(keyBytes)), as: UTF8.self)
        }
        guard found == key else { throw .damaged("it holds \(found), not \(key)") }
        var layout = PackedLayout()
        for piece in rest.dropFirst(keyWords) {
            guard piece > 0, piece <= payloadBytes, layout.byteCount <= payloadBytes else {
                throw .damaged("its header is damaged")
            }
            _ = layout.place(byteCount: Int(piece))
        }
        guard layout.byteCount == Int(payloadBytes) else {
            throw .damaged("its header is damaged")
        }
        return Header(
            headerBytes: Int(headerBytes), payloadBytes: Int(payloadBytes), pieces: layout.pieces)
    }

    private static func words(
        of descriptor: Int32, at offset: Int, count: Int, fileBytes: Int
    ) throws(Refusal) -> [UInt64] {
        guard offset + count * 8 <= fileBytes else { throw .damaged("it is cut off") }
        var words = [UInt64](repeating: 0, count: count)
        var failure: Refusal?
        words.withUnsafeMutableBytes { bytes in
            var done = 0
            while done < bytes.count, let start = bytes.baseAddress {
                let got = pread(descriptor, start + done, bytes.count - done, off_t(offset + done))
                if got < 0, errno == EINTR { continue }
                guard got > 0 else {
                    failure =
                        got == 0
                        ? .damaged("it is cut off") : .unreadable(operation: "read", errno: errno)
                    return
                }
                done += got
            }
        }
        if let failure { throw failure }
        return words
    }

    /// Reserves addresses with room to begin at a huge page, and puts the file there.
    private static func map(
        _ descriptor: Int32, from offset: Int, byteCount: Int
    ) throws(Refusal) -> (UnsafeMutableRawPointer, Int) {
        let page = HostBuffer.hugePageBytes
        let reserved = byteCount + 2 * page
        let mapping = mmap(
            nil, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping, mapping != MAP_FAILED else {
            throw .unreadable(operation: "mmap", errno: errno)
        }
        let start = mapping + (page - Int(bitPattern: mapping) % page) % page
        let file = mmap(
            start, byteCount, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, off_t(offset))
        guard file != MAP_FAILED else {
            let failure = errno
            munmap(mapping, reserved)
            throw .unreadable(operation: "mmap", errno: failure)
        }
        ck_prefer_huge_pages(start, byteCount)
        return (mapping, reserved)
    }

    // MARK: Writing

    /// Writes a whole file and waits for the disk; what is there under `path` is overwritten.
    static func write(
        _ layout: PackedLayout, _ chunks: [HostBuffer], key: String, to path: String
    ) throws(Refusal) {
        precondition(chunks.count == layout.chunks.count, "\(chunks.count) chunks")
        precondition(key.utf8.count <= keyBytesMax, "a key of \(key.utf8.count) bytes")
        let flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC
        let descriptor = open(path, flags, mode_t(0o644))
        guard descriptor >= 0 else { throw .unreadable(operation: "open", errno: errno) }
        defer { close(descriptor) }
        let header = header(layout, key: key)
        // A full disk is told before gigabytes are written.
        let total = header.count * 8 + layout.byteCount
        let failure = posix_fallocate(descriptor, 0, off_t(total))
        guard failure == 0 else { throw .unreadable(operation: "fallocate", errno: failure) }
        var unsynced = 0
        for (chunk, buffer) in zip(layout.chunks, chunks) {
            let bytes = UnsafeRawBufferPointer(start: buffer.address, count: chunk.used)
            try write(bytes, to: descriptor, at: header.count * 8 + chunk.start)
            unsynced += chunk.used
            if unsynced >= syncBytes {
                try sync(descriptor)
                unsynced = 0
            }
        }
        var refusal: Refusal?
        header.withUnsafeBytes { bytes in
            do throws(Refusal) {
                try write(bytes, to: descriptor, at: 0)
            } catch { refusal = error }
        }
        if let refusal { throw refusal }
        try sync(descriptor)
    }

    private static func sync(_ descriptor: Int32) throws(Refusal) {
        guard fsync(descriptor) == 0 else { throw .unreadable(operation: "fsync", errno: errno) }
    }

    private static func header(_ layout: PackedLayout, key: String) -> [UInt64] {
        var text = Array(key.utf8)
        let keyBytes = text.count
        text += [UInt8](repeating: 0, count: (8 - keyBytes % 8) % 8)
        let rest =
            text.withUnsafeBytes { Array($0.bindMemory(to: UInt64.self)) }
            + layout.pieces.map { UInt64($0) }
        let page = HostBuffer.hugePageBytes / 8
        let count = (fixedWords + rest.count + page - 1) / page * page
        let fixed = [
            magic, UInt64(count * 8), UInt64(layout.byteCount), UInt64(keyBytes),
            UInt64(layout.pieces.count),
        ]
        let header = fixed + [checksum(fixed + rest)] + rest
        return header + [UInt64](repeating: 0, count: count - header.count)
    }

    private static func checksum(_ words: [UInt64]) -> UInt64 {
        var hash = FNV1a()
        words.withUnsafeBytes { hash.add($0) }
        return hash.value
    }

    private static func write(
        _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at offset: Int
    ) throws(Refusal) {
        var done = 0
        while done < bytes.count, let start = bytes.baseAddress {
            let put = pwrite(descriptor, start + done, bytes.count - done, off_t(offset + done))
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw .unreadable(operation: "write", errno: errno) }
            done += put
        }
    }
}
