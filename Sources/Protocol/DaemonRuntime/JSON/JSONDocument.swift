internal import CSimdJSON

/// Why a text is not JSON, in simdjson's words.
public struct JSONError: Error, Hashable, Sendable {
    public let reason: String
}

/// A parsed JSON text. Values point into it, so it must outlive them; ``JSONValue`` keeps it alive.
///
/// Parsing is simdjson's DOM (RFC 8259, UTF-8 only, duplicate keys kept, first one found).
public final class JSONDocument {
    fileprivate let handle: OpaquePointer

    /// - Throws: ``JSONError`` when `bytes` is not one JSON value.
    public init(_ bytes: UnsafeBufferPointer<UInt8>) throws(JSONError) {
        var reason: UnsafePointer<CChar>?
        guard let handle = cj_parse(bytes.baseAddress, bytes.count, &reason) else {
            throw JSONError(reason: reason.map { String(cString: $0) } ?? "not JSON")
        }
        self.handle = handle
    }

    public convenience init(_ bytes: [UInt8]) throws(JSONError) {
        let parsed: Result<OpaquePointer, JSONError> = bytes.withUnsafeBufferPointer {
            var reason: UnsafePointer<CChar>?
            guard let handle = cj_parse($0.baseAddress, $0.count, &reason) else {
                let text = reason.map { String(cString: $0) } ?? "not JSON"
                return .failure(JSONError(reason: text))
            }
            return .success(handle)
        }
        self.init(handle: try parsed.get())
    }

    private init(handle: OpaquePointer) { self.handle = handle }

    deinit { cj_free(handle) }

    public var root: JSONValue { JSONValue(document: self, element: cj_root(handle)) }
}

/// One value of a ``JSONDocument``; copying it is cheap.
public struct JSONValue {
    public enum Kind: Hashable, Sendable {
        case null, bool, integer, unsigned, double, string, array, object
    }

    private let document: JSONDocument
    private let element: cj_element

    fileprivate init(document: JSONDocument, element: cj_element) {
        self.document = document
        self.element = element
    }

    public var kind: Kind {
        switch cj_kind_of(element) {
        case CJ_NULL: .null
        case CJ_BOOL: .bool
        case CJ_INT64: .integer
        case CJ_UINT64: .unsigned
        case CJ_DOUBLE: .double
        case CJ_STRING: .string
        case CJ_ARRAY: .array
        default: .object
        }
    }

    public var isNull: Bool { kind == .null }
    public var bool: Bool? { kind == .bool ? cj_bool(element) : nil }

    /// A whole number that fits in 64 bits with sign; `1.0` is not one.
    public var integer: Int? { kind == .integer ? Int(cj_int64(element)) : nil }

    /// Any number.
    public var double: Double? {
        switch kind {
        case .integer, .unsigned, .double: cj_double(element)
        default: nil
        }
    }

    public var string: String? { withUTF8 { String(decoding: $0, as: UTF8.self) } }

    /// The bytes of a string, valid during the call only; nil when the value is no string.
    public func withUTF8<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result? {
        guard kind == .string else { return nil }
        var count = 0
        guard let start = cj_string(element, &count) else { return nil }
        return start.withMemoryRebound(to: UInt8.self, capacity: max(count, 1)) {
            body(UnsafeBufferPointer(start: $0, count: count))
        }
    }

    /// The entries of an array, in order; nil when the value is no array.
    public var array: [JSONValue]? {
        guard kind == .array else { return nil }
        var entries: [JSONValue] = []
        entries.reserveCapacity(cj_count(element))
        var cursor = cj_begin(element)
        var next = element
        while cj_next_entry(&cursor, &next) {
            entries.append(JSONValue(document: document, element: next))
        }
        return entries
    }

    /// The members of an object, in the order of the text; nil when the value is no object.
    public var members: [(key: String, value: JSONValue)]? {
        guard kind == .object else { return nil }
        var members: [(key: String, value: JSONValue)] = []
        members.reserveCapacity(cj_count(element))
        forEachMember { key, value in
            members.append((String(decoding: key, as: UTF8.self), value))
        }
        return members
    }

    /// Visits the members of an object without copying keys (large tables); no-op otherwise.
    public func forEachMember(_ body: (UnsafeBufferPointer<UInt8>, JSONValue) -> Void) {
        guard kind == .object else { return }
        var cursor = cj_begin(element)
        var key: UnsafePointer<CChar>?
        var keyCount = 0
        var next = element
        while cj_next_member(&cursor, &key, &keyCount, &next) {
            let value = JSONValue(document: document, element: next)
            key?.withMemoryRebound(to: UInt8.self, capacity: max(keyCount, 1)) {
                body(UnsafeBufferPointer(start: $0, count: keyCount), value)
            }
        }
    }

    /// The member named `key`, or nil when there is none or the value is no object.
    public subscript(key: String) -> JSONValue? {
        guard kind == .object else { return nil }
        var key = key
        var found = element
        let exists = key.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) {
                cj_find(element, $0.baseAddress, $0.count, &found)
            }
        }
        return exists ? JSONValue(document: document, element: found) : nil
    }
}
