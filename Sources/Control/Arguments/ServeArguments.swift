internal import DaemonRuntime

/// A command line of `vllm serve`, in Phalanx's words: short forms are long ones, what has no
/// effect is a note, and what cannot be honoured is refused with the reason.
struct ServeArguments {
    /// Of all daemons together.
    let options: Options
    /// Of the command itself, such as `--bin`; a flag's value is empty.
    let own: [String: String]
    /// What was accepted without effect, and why.
    let notes: [String]

    /// - Parameter ownOptions: the command's own, with whether they take a value.
    init(_ arguments: [String], own ownOptions: [String: Bool]) throws(ControlError) {
        var translation = Translation(arguments, ownOptions)
        try translation.run()
        do throws(OptionError) {
            options = try Options(daemon: nil, arguments: translation.translated)
            var notes = translation.notes
            if options.flag("trust-remote-code") {
                notes.append("--trust-remote-code has no effect: no code of a checkpoint is run")
            }
            let additional = try AdditionalConfiguration(options.requiredText("additional-config"))
            notes += additional.notes.map { "--additional-config: \($0)" }
            self.notes = notes
        } catch {
            throw .usage(error.description)
        }
        own = translation.own
    }
}

private struct Translation {
    private let arguments: [String]
    private let ownOptions: [String: Bool]
    private var index = 0
    private(set) var translated: [String] = []
    private(set) var own: [String: String] = [:]
    private(set) var notes: [String] = []

    init(_ arguments: [String], _ ownOptions: [String: Bool]) {
        self.arguments = arguments
        self.ownOptions = ownOptions
    }

    mutating func run() throws(ControlError) {
        var hasModel = false
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            if !argument.hasPrefix("-"), !hasModel {
                translated.insert(argument, at: 0)
                hasModel = true
                continue
            }
            let parts = argument.split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count == 2 ? String(parts[1]) : nil
            let name = try longName(String(parts[0]))
            try take(name, value, as: String(parts[0]))
        }
    }

    /// Without its dashes, with hyphens.
    private func longName(_ given: String) throws(ControlError) -> String {
        if given.hasPrefix("--") { return String(given.dropFirst(2)).replacing("_", with: "-") }
        if let name = VLLMOption.shortForms[given] { return name }
        guard given.hasPrefix("-") else {
            throw .usage("\"\(given)\": expected an option (--name)")
        }
        let hint =
            OptionTable.nearest(to: given, among: VLLMOption.shortForms.keys.sorted())
            .map { "; did you mean \"\($0)\"?" } ?? ""
        throw .usage("unknown option \"\(given)\"\(hint)")
    }

    private mutating func take(
        _ name: String, _ value: String?, as given: String
    ) throws(ControlError) {
        if let takesValue = ownOptions[name] {
            own[name] = takesValue ? try self.value(value, given) : ""
        } else if let option = VLLMOption.named(name) {
            let meant = option.takesValue ? try self.value(value, given) : ""
            if let reason = option.refusal(of: meant) {
                throw .usage("\(given) \(meant): is refused: \(reason)")
            }
            notes.append("\(given) has no effect: \(option.note)")
        } else if name.hasPrefix("no-"), VLLMOption.named(String(name.dropFirst(3))) != nil {
            notes.append("\(given) has no effect: it is so anyway")
        } else if name == "gpu-memory-utilization" {
            let meant = try self.value(value, given)
            if let problem = OptionTable.specification(of: name)?.problem(with: meant) {
                throw .usage("\(given): \(problem)")
            }
            notes.append(
                "\(given) has no effect on the CPU, which has no device memory: "
                    + "--kv-cache-memory-bytes sizes the cache")
        } else {
            try pass(name, value)
        }
    }

    /// An option of Phalanx. vLLM gives several names of a model as several words.
    private mutating func pass(_ name: String, _ value: String?) throws(ControlError) {
        let known = OptionTable.specification(of: name)
        guard let specification = known, specification.kind != .flag else {
            translated.append("--\(name)" + (value.map { "=\($0)" } ?? ""))
            let isNegative = OptionTable.specification(of: String(name.dropFirst(3)))?.kind == .flag
            // What follows an unknown option may be its value; that option is complained of first.
            if known == nil && !(name.hasPrefix("no-") && isNegative) { index = arguments.count }
            return
        }
        var values = [try self.value(value, "--\(name)")]
        if name == "served-model-name" || specification.kind == .list {
            while index < arguments.count, !arguments[index].hasPrefix("-") {
                values.append(arguments[index])
                index += 1
            }
        }
        if specification.kind == .list {
            translated += values.map { "--\(name)=\($0)" }
        } else {
            translated.append("--\(name)=\(values.joined(separator: ","))")
        }
    }

    /// What stands behind `=`, or else the next argument.
    private mutating func value(
        _ value: String?, _ given: String
    ) throws(ControlError) -> String {
        if let value { return value }
        guard index < arguments.count, !arguments[index].hasPrefix("--") else {
            throw .usage("\(given): needs a value (\(given)=VALUE for any)")
        }
        index += 1
        return arguments[index - 1]
    }
}
