/// The keys of `--api-key`; with none, everyone may ask for everything.
public struct APIKeys: Sendable {
    private static let scheme = "bearer "
    private let keys: [[UInt8]]

    public init(_ keys: [String]) { self.keys = keys.map { Array($0.utf8) } }

    /// True for paths that spend the model's time or show its text; health and metrics are open.
    public static func protects(target: String) -> Bool {
        let path = target.prefix { $0 != "?" }
        return path == "/v1" || path.hasPrefix("/v1/") || path == "/tokenize"
            || path == "/detokenize"
    }

    /// - Parameter authorization: The field's value, "Bearer …".
    /// - Throws: `unauthorized`.
    public func check(
        method: String, target: String, authorization: String?
    ) throws(APIError) {
        // A browser's preflight carries no key.
        if keys.isEmpty || method == "OPTIONS" || !Self.protects(target: target) { return }
        guard let authorization else { throw .unauthorized }
        let bytes = Array(authorization.utf8)
        guard bytes.count > Self.scheme.utf8.count,
            authorization.prefix(Self.scheme.count).lowercased() == Self.scheme
        else { throw .unauthorized }
        let offered = bytes[Self.scheme.utf8.count...]
        // Every key is compared to its end, so the time tells nothing about any of them.
        var isKnown = false
        for key in keys where Self.areEqual(key, offered) { isKnown = true }
        if !isKnown { throw .unauthorized }
    }

    /// In a time that depends on the lengths alone.
    private static func areEqual(_ key: [UInt8], _ offered: ArraySlice<UInt8>) -> Bool {
        var difference = UInt8(key.count == offered.count ? 0 : 1)
        for (position, byte) in offered.enumerated() {
            let expected = key.isEmpty ? 0 : key[position % key.count]
            difference |= byte ^ expected
        }
        return difference == 0
    }
}
