internal import Protocol

/// The versions of the wire protocol that a process may speak.
extension Options {
    /// nil where they are none.
    var protocols: ProtocolRange? {
        ProtocolRange(
            oldest: integer("protocol-min").map { UInt32($0) } ?? ProtocolVersion.oldest,
            newest: integer("protocol-max").map { UInt32($0) } ?? ProtocolVersion.current)
    }

    func checkProtocols() throws(OptionError) {
        guard protocols == nil else { return }
        throw OptionError(
            description: "--protocol-min \(text("protocol-min") ?? "") is above --protocol-max "
                + "\(text("protocol-max") ?? "\(ProtocolVersion.current)"): no version is left")
    }
}
