internal import DaemonRuntime

/// The command line of the benchmark, each value checked against ``BenchOptionTable``.
struct BenchOptions: Sendable {
    private var values: [String: [String]] = [:]

    /// - Parameter arguments: without the program's name and the word `serve`.
    init(_ arguments: [String]) throws(OptionError) {
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            guard argument.hasPrefix("--") else {
                throw OptionError(description: "\"\(argument)\": expected an option (--name)")
            }
            let parts = argument.dropFirst(2).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            var name = String(parts[0]).replacing("_", with: "-")
            var given = parts.count == 2 ? [String(parts[1])] : []
            if name.hasPrefix("no-"), given.isEmpty,
                BenchOptionTable.specification(of: String(name.dropFirst(3)))?.kind == .flag
            {
                name = String(name.dropFirst(3))
                given = ["false"]
            }
            let specification = try Self.specification(of: name, as: argument)
            if given.isEmpty, specification.kind == .flag { given = ["true"] }
            let isList = specification.kind == .list
            // A list takes all values up to the next option, as in vLLM.
            while index < arguments.count, !arguments[index].hasPrefix("--"),
                isList || given.isEmpty
            {
                given.append(arguments[index])
                index += 1
            }
            guard !given.isEmpty else {
                throw OptionError(
                    description: "\(argument): needs a value (\(argument)=VALUE for any)")
            }
            for value in given {
                if let problem = specification.problem(with: value) {
                    throw OptionError(description: "--\(name): \(problem)")
                }
            }
            values[name] = isList ? (values[name] ?? []) + given : given
        }
    }

    private static func specification(
        of name: String, as argument: String
    ) throws(OptionError) -> OptionSpecification {
        if let specification = BenchOptionTable.specification(of: name) { return specification }
        if let refused = BenchOptionTable.refused.first(where: { $0.name == name }) {
            throw OptionError(description: "--\(name): \(refused.reason)")
        }
        let known = BenchOptionTable.all.map(\.name)
        let hint = OptionTable.nearest(to: name, among: known).map { "; did you mean \"\($0)\"?" }
        throw OptionError(description: "\(argument): unknown option \"\(name)\"\(hint ?? "")")
    }

    func isGiven(_ name: String) -> Bool { values[name] != nil }

    func text(_ name: String) -> String? {
        values[name]?.last ?? BenchOptionTable.specification(of: name)?.defaultValue
    }

    func list(_ name: String) -> [String] { values[name] ?? [] }

    func integer(_ name: String) -> Int? { text(name).flatMap { Int($0) } }

    func number(_ name: String) -> Double? { text(name).flatMap { Double($0) } }

    func flag(_ name: String) -> Bool { text(name) == "true" }

    // For options that have a default.

    func requiredText(_ name: String) -> String {
        guard let value = text(name) else { preconditionFailure("--\(name) has no default") }
        return value
    }

    func requiredInteger(_ name: String) -> Int {
        guard let value = integer(name) else { preconditionFailure("--\(name) has no default") }
        return value
    }

    func requiredNumber(_ name: String) -> Double {
        guard let value = number(name) else { preconditionFailure("--\(name) has no default") }
        return value
    }
}
