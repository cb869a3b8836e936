internal import DaemonRuntime

/// The members of one JSON object of a request, read by name and type.
///
/// Conversions are those of vLLM's schema (pydantic's lax mode), so that a client that works there
/// works here: `1.0` and `"1"` are whole numbers, `1` and `"true"` are booleans, nothing but a
/// string is a string. Of equal names the last one counts, as in Python. Unknown names are kept
/// out of every decision.
struct RequestFields {
    private let values: [String: JSONValue]
    /// What stands before a name in errors, e.g. "stream_options.".
    private let path: String

    /// - Throws: `invalidJSON` for text that isn't JSON, `invalidType` for another value than an
    ///   object.
    init(body: [UInt8]) throws(APIError) {
        let document: JSONDocument
        do {
            document = try JSONDocument(body)
        } catch {
            throw .invalidJSON(reason: error.reason)
        }
        try self.init(object: document.root, name: "body", path: "")
    }

    init(object: JSONValue, name: String, path: String) throws(APIError) {
        guard let members = object.members else {
            throw .invalidType(name: name, expected: "an object")
        }
        var values: [String: JSONValue] = [:]
        values.reserveCapacity(members.count)
        for member in members { values[member.key] = member.value }
        self.values = values
        self.path = path
    }

    func name(_ name: String) -> String { path + name }

    /// The value of a member, or nil when it is missing or null.
    func value(_ name: String) -> JSONValue? {
        guard let value = values[name], !value.isNull else { return nil }
        return value
    }

    func isPresent(_ name: String) -> Bool { values[name] != nil }

    /// - Throws: `invalidType` for null: vLLM gives these fields a type without null.
    private func nonNull(_ name: String, _ expected: String) throws(APIError) -> JSONValue? {
        guard let value = values[name] else { return nil }
        if value.isNull { throw .invalidType(name: self.name(name), expected: expected) }
        return value
    }

    // MARK: Scalars; nil for missing and null

    func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = value(name) else { return nil }
        return try Self.bool(value, name: self.name(name))
    }

    func integer(_ name: String) throws(APIError) -> Int? {
        guard let value = value(name) else { return nil }
        return try Self.integer(value, name: self.name(name))
    }

    func number(_ name: String) throws(APIError) -> Double? {
        guard let value = value(name) else { return nil }
        return try Self.number(value, name: self.name(name))
    }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.string else {
            throw .invalidType(name: self.name(name), expected: "a string")
        }
        return text
    }

    // MARK: Scalars that may be missing, but not null

    func bool(_ name: String, default missing: Bool) throws(APIError) -> Bool {
        guard let value = try nonNull(name, "a boolean") else { return missing }
        return try Self.bool(value, name: self.name(name))
    }

    func integer(_ name: String, default missing: Int) throws(APIError) -> Int {
        guard let value = try nonNull(name, "an integer") else { return missing }
        return try Self.integer(value, name: self.name(name))
    }

    func number(_ name: String, default missing: Double) throws(APIError) -> Double {
        guard let value = try nonNull(name, "a number") else { return missing }
        return try Self.number(value, name: self.name(name))
    }

    // MARK: Compounds; nil for missing and null

    func array(_ name: String) throws(APIError) -> [JSONValue]? {
        guard let value = value(name) else { return nil }
        guard let entries = value.array else {
            throw .invalidType(name: self.name(name), expected: "an array")
        }
        return entries
    }

    func strings(_ name: String) throws(APIError) -> [String]? {
        guard let entries = try array(name) else { return nil }
        var result: [String] = []
        result.reserveCapacity(entries.count)
        for entry in entries {
            guard let text = entry.string else {
                throw .invalidType(name: self.name(name), expected: "an array of strings")
            }
            result.append(text)
        }
        return result
    }

    func object(_ name: String) throws(APIError) -> RequestFields? {
        guard let value = value(name) else { return nil }
        return try RequestFields(
            object: value, name: self.name(name), path: self.name(name) + ".")
    }

    /// True for what Python calls true: anything but null, false, 0, "", [] and {}.
    func isSubstantial(_ name: String) -> Bool {
        guard let value = value(name) else { return false }
        switch value.kind {
        case .null: return false
        case .bool: return value.bool == true
        case .integer, .unsigned, .double: return value.double != 0
        case .string: return value.string?.isEmpty == false
        case .array: return value.array?.isEmpty == false
        case .object: return value.members?.isEmpty == false
        }
    }

    // MARK: Conversions

    static func integer(_ value: JSONValue, name: String) throws(APIError) -> Int {
        switch value.kind {
        case .integer:
            if let whole = value.integer { return whole }
        case .double:
            if let whole = value.double.flatMap(Int.init(exactly:)) { return whole }
        case .bool:
            return value.bool == true ? 1 : 0
        case .string:
            if let text = value.string, let whole = integer(trimmed(text)) { return whole }
        case .null, .unsigned, .array, .object:
            break
        }
        throw .invalidType(name: name, expected: "an integer of 64 bits")
    }

    static func number(_ value: JSONValue, name: String) throws(APIError) -> Double {
        switch value.kind {
        case .integer, .unsigned, .double:
            if let number = value.double { return number }
        case .bool:
            return value.bool == true ? 1 : 0
        case .string:
            if let text = value.string, let number = decimal(trimmed(text)) { return number }
        case .null, .array, .object:
            break
        }
        throw .invalidType(name: name, expected: "a number")
    }

    static func bool(_ value: JSONValue, name: String) throws(APIError) -> Bool {
        switch value.kind {
        case .bool:
            if let flag = value.bool { return flag }
        case .integer, .double:
            if value.double == 0 { return false }
            if value.double == 1 { return true }
        case .string:
            switch value.string?.lowercased() {
            case "1", "true", "t", "yes", "y", "on": return true
            case "0", "false", "f", "no", "n", "off": return false
            default: break
            }
        case .null, .unsigned, .array, .object:
            break
        }
        throw .invalidType(name: name, expected: "a boolean")
    }

    private static func trimmed(_ text: String) -> Substring {
        var text = text[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    /// "12" and "12.0", as Python's schema reads them.
    private static func integer(_ text: Substring) -> Int? {
        Int(text) ?? decimal(text).flatMap(Int.init(exactly:))
    }

    /// A finite decimal number; Swift alone would also take "nan", "inf" and "0x1p3".
    private static func decimal(_ text: Substring) -> Double? {
        let isDecimal = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
                UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
                true
            default: false
            }
        }
        guard isDecimal, let number = Double(text), number.isFinite else { return nil }
        return number
    }
}
