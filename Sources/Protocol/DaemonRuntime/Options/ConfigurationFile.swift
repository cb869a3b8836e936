internal import CYAML

/// Reads a configuration file: one YAML mapping of option names to values (libyaml's events).
/// `data_parallel_size` is the same key as `data-parallel-size`, as in vLLM.
enum ConfigurationFile {
    static let bytesMax = 1 << 20

    static func read(_ path: String) throws(OptionError) -> [Options.Given] {
        let contents: [UInt8]
        do throws(FileError) {
            contents = try FileContents.read(path, bytesMax: bytesMax)
        } catch {
            throw OptionError(description: "\(path): \(error)")
        }
        var reader = EventReader(path: path)
        return try reader.read(contents)
    }
}

/// The shape `{key: scalar | [scalar, …]}` out of libyaml's event stream.
private struct EventReader {
    let path: String
    private var given: [Options.Given] = []
    private var key: String?
    private var depth = 0
    private var inList = false
    private var seen: Set<String> = []

    init(path: String) { self.path = path }

    mutating func read(_ contents: [UInt8]) throws(OptionError) -> [Options.Given] {
        var parser = yaml_parser_t()
        guard yaml_parser_initialize(&parser) == 1 else {
            throw OptionError(description: "\(path): out of memory")
        }
        defer { yaml_parser_delete(&parser) }
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(contents.count, 1))
        defer { buffer.deallocate() }
        _ = buffer.initialize(from: contents)
        yaml_parser_set_input_string(&parser, buffer.baseAddress, contents.count)
        while true {
            var event = yaml_event_t()
            guard yaml_parser_parse(&parser, &event) == 1 else {
                let problem = parser.problem.map { String(cString: $0) } ?? "not YAML"
                // The reader, which decodes, knows only the byte.
                let line =
                    parser.error == YAML_READER_ERROR
                    ? contents.prefix(parser.problem_offset).count { $0 == 0x0A }
                    : Int(parser.problem_mark.line)
                throw error(line: line, problem)
            }
            defer { yaml_event_delete(&event) }
            let line = Int(event.start_mark.line)
            switch event.type {
            case YAML_SCALAR_EVENT: try scalar(event, line)
            case YAML_MAPPING_START_EVENT: try enterMapping(line)
            case YAML_MAPPING_END_EVENT: depth -= 1
            case YAML_SEQUENCE_START_EVENT: try enterSequence(line)
            case YAML_SEQUENCE_END_EVENT:
                inList = false
                key = nil
            case YAML_ALIAS_EVENT: throw error(line: line, "aliases are not supported")
            case YAML_STREAM_END_EVENT: return given
            default: break
            }
        }
    }

    private mutating func enterMapping(_ line: Int) throws(OptionError) {
        if let key { throw error(line: line, "\(key): a mapping is no value of this option") }
        if depth > 0 || inList { throw error(line: line, "expected `option: value`") }
        depth += 1
    }

    private mutating func enterSequence(_ line: Int) throws(OptionError) {
        guard let key else { throw error(line: line, "expected `option: value`") }
        guard OptionTable.specification(of: key)?.kind == .list else {
            throw error(line: line, "\(key): takes one value, not a list")
        }
        if inList { throw error(line: line, "\(key): a list in a list") }
        inList = true
    }

    private mutating func scalar(_ event: yaml_event_t, _ line: Int) throws(OptionError) {
        let scalar = event.data.scalar
        let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
        let text = String(decoding: bytes, as: UTF8.self)
        guard depth > 0 else {
            if text.isEmpty { return }  // A document with nothing in it.
            throw error(line: line, "expected `option: value`")
        }
        guard let key else {
            let name = text.replacing("_", with: "-")
            let place = "\(path) line \(line + 1)"
            if name == "config" { throw error(line: line, "config: is no option in a file") }
            guard OptionTable.specification(of: name) != nil else {
                throw Options.unknown(Options.Given(name: name, value: "", place: place))
            }
            guard seen.insert(name).inserted else {
                throw error(line: line, "\(name) is given twice")
            }
            self.key = name
            return
        }
        let plain = scalar.style == YAML_PLAIN_SCALAR_STYLE
        let value =
            plain && OptionTable.specification(of: key)?.kind == .flag
            ? Self.boolean(text) : text
        given.append(Options.Given(name: key, value: value, place: "\(path) line \(line + 1)"))
        if !inList { self.key = nil }
    }

    /// YAML 1.1 writes a boolean in many ways.
    private static func boolean(_ text: String) -> String {
        switch text.lowercased() {
        case "true", "yes", "on": "true"
        case "false", "no", "off": "false"
        default: text
        }
    }

    private func error(line: Int, _ problem: String) -> OptionError {
        OptionError(description: "\(path) line \(line + 1): \(problem)")
    }
}
