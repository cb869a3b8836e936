import Protocol

/// What a process must have in common with this deployment to be let in.
extension Membership {
    func refusalOfProtocols(_ hello: Hello) -> Refusal {
        let text = protocols.refusal(
            of: hello.protocols, peer: "version \(hello.softwareVersion) on \(hello.node)",
            this: "the coordinator (version \(softwareVersion))")
        return Refusal(reason: .protocolVersion, text: text ?? "no protocol in common")
    }

    func refusal(of hello: Hello) -> Refusal? {
        let differences = hello.declared.compactMap { entry -> ConfigurationDifference? in
            let ours = configuration.first { $0.key == entry.key }?.value ?? ""
            if ours == entry.value { return nil }
            return ConfigurationDifference(
                key: entry.key, coordinatorValue: ours, peerValue: entry.value)
        }
        if differences.isEmpty { return nil }
        return Refusal(
            reason: .configuration,
            text: "the configuration differs from the coordinator's in "
                + "\(differences.map(\.key).joined(separator: ", "))",
            differences: differences)
    }
}
