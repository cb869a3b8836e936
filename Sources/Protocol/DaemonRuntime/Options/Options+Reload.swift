/// An option that command line and file now give another value.
public struct OptionChange: Hashable, Sendable {
    public enum Effect: Hashable, Sendable {
        case taken
        /// The deployment has one value, the coordinator's, which tells it when it is reloaded.
        case ofCoordinator
        /// The process goes on with the old one.
        case needsRestart
    }

    public let name: String
    /// For people: without secrets.
    public let before: String
    public let after: String
    public let effect: Effect
}

extension Options {
    private static let secret = "api-key"

    /// These options with what the file says now, as far as a running process can take it over.
    ///
    /// - Throws: what is wrong with the file; then nothing of it counts.
    public func reread() throws(OptionError) -> (options: Options, changes: [OptionChange]) {
        let fresh = try readAgain()
        let (before, after) = (all, fresh.all)
        var merged = self
        var changes: [OptionChange] = []
        for specification in OptionTable.all {
            let name = specification.name
            guard before[name] != after[name] else { continue }
            changes.append(
                OptionChange(
                    name: name, before: Self.text(before[name], name),
                    after: Self.text(after[name], name), effect: effect(of: specification)))
            if specification.isReloadable { merged.values[name] = fresh.values[name] }
        }
        return (merged, changes)
    }

    private func effect(of specification: OptionSpecification) -> OptionChange.Effect {
        guard specification.isReloadable else { return .needsRestart }
        return specification.scope == .deployment && daemon != .coordinator
            ? .ofCoordinator : .taken
    }

    private static func text(_ values: [String]?, _ name: String) -> String {
        guard let values, !values.isEmpty else { return "nothing" }
        return name == secret ? "\(values.count) hidden" : values.joined(separator: ", ")
    }
}
