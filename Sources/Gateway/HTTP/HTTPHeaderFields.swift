/// Header fields in the order they came, names in lower case.
public struct HTTPHeaderFields: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    public struct Field: Hashable, Sendable {
        public let name: String
        public let value: String
    }

    public private(set) var fields: [Field] = []

    public init() {}

    public init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { append(name, value) }
    }

    /// The first field of that name, which must be in lower case.
    public subscript(name: String) -> String? {
        fields.first { $0.name == name }?.value
    }

    /// All fields of that name, which must be in lower case.
    public func values(of name: String) -> [String] {
        fields.filter { $0.name == name }.map(\.value)
    }

    /// Traps on a name that is no token and on a value with a control byte: either would let the
    /// one who chose it write a header of its own (response splitting). Check outside input first,
    /// with ``isValue(_:)``.
    public mutating func append(_ name: String, _ value: String) {
        precondition(
            !name.isEmpty && name.utf8.allSatisfy(HTTPBytes.isTokenByte),
            "\(name.debugDescription) is not a field name")
        precondition(Self.isValue(value), "\(value.debugDescription) is not a field value")
        fields.append(Field(name: name.lowercased(), value: value))
    }

    public static func isValue(_ text: String) -> Bool {
        text.utf8.allSatisfy { !HTTPBytes.isControl($0) }
    }

    /// For the parser, which has checked both.
    mutating func appendChecked(name: String, value: String) {
        fields.append(Field(name: name, value: value))
    }
}
