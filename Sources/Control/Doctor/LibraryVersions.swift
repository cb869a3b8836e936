internal import DaemonRuntime
internal import Glibc

/// Versions of the libraries that the daemons load, as the libraries say them: major, minor, patch.
enum LibraryVersions {
    static func zeroMQ() -> [Int] {
        let version = ZeroMQContext.version
        return [version / 10_000, version / 100 % 100, version % 100]
    }

    /// `void ucp_get_version(unsigned *major, unsigned *minor, unsigned *release)`.
    static func ucx() -> [Int]? {
        typealias GetVersion =
            @convention(c) (
                UnsafeMutablePointer<UInt32>, UnsafeMutablePointer<UInt32>,
                UnsafeMutablePointer<UInt32>
            ) -> Void
        return with("libucp.so.0", "ucp_get_version") { symbol in
            var (major, minor, release): (UInt32, UInt32, UInt32) = (0, 0, 0)
            unsafeBitCast(symbol, to: GetVersion.self)(&major, &minor, &release)
            return [Int(major), Int(minor), Int(release)]
        }
    }

    /// `unsigned long OpenSSL_version_num(void)`: 0xMNN00PP0 since OpenSSL 3.
    static func openSSL() -> [Int]? {
        typealias VersionNumber = @convention(c) () -> CUnsignedLong
        return with("libcrypto.so.3", "OpenSSL_version_num") { symbol in
            let number = unsafeBitCast(symbol, to: VersionNumber.self)()
            return [Int(number >> 28 & 0xF), Int(number >> 20 & 0xFF), Int(number >> 4 & 0xFF)]
        }
    }

    /// What `body` makes of a function of a library, which stays loaded.
    private static func with(
        _ library: String, _ symbol: String, _ body: (UnsafeMutableRawPointer) -> [Int]
    ) -> [Int]? {
        guard let handle = dlopen(library, RTLD_NOW | RTLD_LOCAL),
            let address = dlsym(handle, symbol)
        else { return nil }
        return body(address)
    }
}
