internal import CYAML

/// A YAML document as a tree whose every part knows its line, made from libyaml's events. Anchors,
/// aliases and deep nesting are refused: no configuration needs them.
struct YAMLTree {
    enum Content {
        /// `isPlain`: without quotes, so that YAML's own words for a boolean count.
        case scalar(String, isPlain: Bool)
        case list([YAMLTree])
        case mapping([(key: YAMLTree, value: YAMLTree)])
    }

    /// Mappings and lists within each other.
    static let depthMax = 8

    let content: Content
    /// Counted from 1.
    let line: Int

    struct Failure: Error {
        let line: Int
        let problem: String
    }

    /// The first document; nil when there is nothing in it.
    static func parse(_ contents: [UInt8]) throws(Failure) -> YAMLTree? {
        var parser = yaml_parser_t()
        guard yaml_parser_initialize(&parser) == 1 else {
            throw Failure(line: 1, problem: "out of memory")
        }
        defer { yaml_parser_delete(&parser) }
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(contents.count, 1))
        defer { buffer.deallocate() }
        _ = buffer.initialize(from: contents)
        yaml_parser_set_input_string(&parser, buffer.baseAddress, contents.count)
        var builder = Builder()
        while true {
            var event = yaml_event_t()
            guard yaml_parser_parse(&parser, &event) == 1 else {
                // The reader, which decodes, knows only the byte.
                let line =
                    parser.error == YAML_READER_ERROR
                    ? contents.prefix(parser.problem_offset).count { $0 == 0x0A }
                    : Int(parser.problem_mark.line)
                throw Failure(
                    line: line + 1,
                    problem: parser.problem.map { String(cString: $0) } ?? "not YAML")
            }
            defer { yaml_event_delete(&event) }
            if try builder.take(event) { return builder.root }
        }
    }
}

/// Collections that are open, innermost last.
private struct Builder {
    struct Open {
        let isMapping: Bool
        let line: Int
        var parts: [YAMLTree] = []
    }

    private var open: [Open] = []
    private(set) var root: YAMLTree?

    /// True at the end of the stream.
    mutating func take(_ event: yaml_event_t) throws(YAMLTree.Failure) -> Bool {
        let line = Int(event.start_mark.line) + 1
        switch event.type {
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            let text = String(decoding: bytes, as: UTF8.self)
            let isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE
            try add(YAMLTree(content: .scalar(text, isPlain: isPlain), line: line))
        case YAML_MAPPING_START_EVENT, YAML_SEQUENCE_START_EVENT:
            guard open.count < YAMLTree.depthMax else {
                throw YAMLTree.Failure(line: line, problem: "nested too deeply")
            }
            open.append(Open(isMapping: event.type == YAML_MAPPING_START_EVENT, line: line))
        case YAML_MAPPING_END_EVENT, YAML_SEQUENCE_END_EVENT:
            guard let last = open.popLast() else { break }
            try add(YAMLTree(content: Self.content(last), line: last.line))
        case YAML_ALIAS_EVENT:
            throw YAMLTree.Failure(line: line, problem: "aliases are not supported")
        case YAML_STREAM_END_EVENT:
            return true
        default:
            break
        }
        return false
    }

    private static func content(_ open: Open) -> YAMLTree.Content {
        guard open.isMapping else { return .list(open.parts) }
        let pairs = stride(from: 0, to: open.parts.count - 1, by: 2)
        return .mapping(pairs.map { (key: open.parts[$0], value: open.parts[$0 + 1]) })
    }

    private mutating func add(_ tree: YAMLTree) throws(YAMLTree.Failure) {
        if !open.isEmpty {
            open[open.count - 1].parts.append(tree)
        } else if root == nil {
            root = tree
        } else {
            throw YAMLTree.Failure(line: tree.line, problem: "a second document")
        }
    }
}
