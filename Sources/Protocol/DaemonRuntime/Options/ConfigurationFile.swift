/// Reads a configuration file: one YAML mapping of option names to values, and perhaps the list
/// `nodes`. `data_parallel_size` is the same key as `data-parallel-size`, as in vLLM.
struct ConfigurationFile {
    static let bytesMax = 1 << 20

    private let path: String
    /// What stands beside `nodes`.
    private(set) var given: [Options.Given] = []
    private(set) var nodes: [NodeEntry] = []

    /// Options of one node or one process, which cannot stand for all nodes.
    static let ofOneNode = [
        "node-name", "worker-address", "device-index", "data-parallel-start-rank",
    ]
    /// Options that all nodes must have alike, or that a node says in another way.
    static let notOfANode: [String: String] = [
        "data-parallel-address": "it is the same for all nodes: put it beside nodes:",
        "data-parallel-rpc-port": "it is the same for all nodes: put it beside nodes:",
        "node-name": "it is what `name` says",
        "device-index": "it is what `devices` says",
    ]

    init(_ path: String) throws(OptionError) {
        self.path = path
        let contents: [UInt8]
        do throws(FileError) {
            contents = try FileContents.read(path, bytesMax: Self.bytesMax)
        } catch {
            throw OptionError(description: "\(path): \(error)")
        }
        let tree: YAMLTree?
        do throws(YAMLTree.Failure) {
            tree = try YAMLTree.parse(contents)
        } catch {
            throw self.error(error.line, error.problem)
        }
        guard let tree else { return }
        switch tree.content {
        case .scalar(let text, _):
            if !text.isEmpty { throw error(tree.line, "expected `option: value`") }
        case .list:
            throw error(tree.line, "expected `option: value`")
        case .mapping(let pairs):
            try takeDeployment(pairs)
        }
    }

    private mutating func takeDeployment(
        _ pairs: [(key: YAMLTree, value: YAMLTree)]
    ) throws(OptionError) {
        var seen: Set<String> = []
        var nodesLine: Int?
        for (key, value) in pairs {
            let name = try self.name(key, &seen)
            if name == "nodes" {
                nodesLine = key.line
                nodes = try nodeList(value)
            } else {
                given += try option(name, key, value)
            }
        }
        guard let nodesLine else { return }
        if nodes.isEmpty { throw error(nodesLine, "nodes: is empty; leave it out for one host") }
        for entry in given where Self.ofOneNode.contains(entry.name) {
            throw OptionError(
                description: "\(entry.place): \(entry.name): is of one node: put it into a node of "
                    + "nodes: (line \(nodesLine))")
        }
    }

    private func name(_ key: YAMLTree, _ seen: inout Set<String>) throws(OptionError) -> String {
        guard case .scalar(let text, _) = key.content else {
            throw error(key.line, "expected `option: value`")
        }
        let name = text.replacing("_", with: "-")
        guard seen.insert(name).inserted else { throw error(key.line, "\(name) is given twice") }
        return name
    }

    /// One option with its value, or with each value of its list.
    private func option(
        _ name: String, _ key: YAMLTree, _ value: YAMLTree
    ) throws(OptionError) -> [Options.Given] {
        if name == "config" { throw error(key.line, "config: is no option in a file") }
        guard let specification = OptionTable.specification(of: name) else {
            throw Options.unknown(Options.Given(name: name, value: "", place: place(key.line)))
        }
        switch value.content {
        case .scalar(let text, let isPlain):
            let meant = isPlain && specification.kind == .flag ? Self.boolean(text) : text
            return [Options.Given(name: name, value: meant, place: place(value.line))]
        case .mapping:
            throw error(value.line, "\(name): a mapping is no value of this option")
        case .list(let parts):
            guard specification.kind == .list else {
                throw error(value.line, "\(name): takes one value, not a list")
            }
            var values: [Options.Given] = []
            for part in parts {
                guard case .scalar(let text, _) = part.content else {
                    throw error(part.line, "\(name): a list or mapping in a list")
                }
                values.append(Options.Given(name: name, value: text, place: place(part.line)))
            }
            return values
        }
    }

    // MARK: Nodes

    private func nodeList(_ value: YAMLTree) throws(OptionError) -> [NodeEntry] {
        guard case .list(let parts) = value.content else {
            throw error(value.line, "nodes: expected a list, a `- name: ...` for each node")
        }
        var nodes: [NodeEntry] = []
        for part in parts {
            guard case .mapping(let pairs) = part.content else {
                throw error(part.line, "nodes: expected name, address and devices of a node")
            }
            let node = try node(pairs, line: part.line)
            if let other = nodes.first(where: { $0.name == node.name }) {
                throw error(
                    part.line,
                    "node \"\(node.name)\" is there already (\(other.place)): "
                        + "give each another name")
            }
            nodes.append(node)
        }
        return nodes
    }

    private func node(
        _ pairs: [(key: YAMLTree, value: YAMLTree)], line: Int
    ) throws(OptionError) -> NodeEntry {
        var seen: Set<String> = []
        var texts: [String: String] = [:]
        var devices: [Int] = []
        var own: [Options.Given] = []
        for (key, value) in pairs {
            let name = try self.name(key, &seen)
            switch name {
            case "name", "address", "interface":
                guard case .scalar(let text, _) = value.content, !text.isEmpty else {
                    throw error(value.line, "\(name): expected a text")
                }
                texts[name] = text
            case "devices":
                devices = try self.devices(value)
            default:
                own += try nodeOption(name, key, value)
            }
        }
        guard let name = texts["name"] else { throw error(line, "a node without `name`") }
        guard let address = texts["address"] else {
            throw error(line, "node \"\(name)\" has no `address`: give the IP address of its NIC")
        }
        guard seen.contains("devices") else {
            throw error(line, "node \"\(name)\" has no `devices`: give their number, or a list")
        }
        return NodeEntry(
            name: name, address: address, interface: texts["interface"], devices: devices,
            place: place(line), given: own)
    }

    private func nodeOption(
        _ name: String, _ key: YAMLTree, _ value: YAMLTree
    ) throws(OptionError) -> [Options.Given] {
        if let reason = Self.notOfANode[name] { throw error(key.line, "\(name): \(reason)") }
        guard let specification = OptionTable.specification(of: name) else {
            let known = ["name", "address", "devices", "interface"] + OptionTable.all.map(\.name)
            let hint =
                OptionTable.nearest(to: name, among: known)
                .map { "; did you mean \"\($0)\"?" } ?? ""
            throw error(key.line, "unknown key \"\(name)\" of a node\(hint)")
        }
        if specification.scope == .deployment {
            throw error(key.line, "\(name): is of the whole deployment: put it beside nodes:")
        }
        return try option(name, key, value)
    }

    /// A count, meaning 0, 1, ..., or the indices themselves.
    private func devices(_ value: YAMLTree) throws(OptionError) -> [Int] {
        let countMax = NodeEntry.devicesMax
        switch value.content {
        case .scalar(let text, _):
            guard let count = Int(text), (0...countMax).contains(count) else {
                throw error(value.line, "devices: \"\(text)\" is not a count in 0...\(countMax)")
            }
            return Array(0..<count)
        case .list(let parts):
            var indices: [Int] = []
            for part in parts {
                guard case .scalar(let text, _) = part.content, let index = Int(text),
                    (0..<countMax).contains(index)
                else {
                    throw error(part.line, "devices: expected indices in 0...\(countMax - 1)")
                }
                if indices.contains(index) {
                    throw error(part.line, "devices: \(index) is given twice")
                }
                indices.append(index)
            }
            return indices
        case .mapping:
            throw error(value.line, "devices: expected a count, or a list of indices")
        }
    }

    /// YAML 1.1 writes a boolean in many ways.
    private static func boolean(_ text: String) -> String {
        switch text.lowercased() {
        case "true", "yes", "on": "true"
        case "false", "no", "off": "false"
        default: text
        }
    }

    private func place(_ line: Int) -> String { "\(path) line \(line)" }

    private func error(_ line: Int, _ problem: String) -> OptionError {
        OptionError(description: "\(place(line)): \(problem)")
    }
}
