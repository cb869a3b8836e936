internal import DaemonRuntime

/// `phalanxctl keys DIR [--rotate ROLE]`.
enum KeysCommand {
    static let synopsis = (
        arguments: "DIR [--rotate ROLE]", summary: "makes the keys of a deployment's links"
    )
    static let page = """
        usage: phalanxctl keys DIR
               phalanxctl keys DIR --rotate ROLE

        Makes a key pair for each role (coordinator, worker, gateway, operator) in the folder DIR,
        which must not have any yet. A daemon that is given --keys DIR encrypts its links and talks
        to nobody without a key of the deployment. Copy to each node the .public files, and the
        .secret files of the daemons that run there, readable by their user alone:

          coordinator   coordinator.secret
          worker        worker.secret
          gateway       gateway.secret
          phalanxctl    operator.secret

        --rotate makes a new pair for one role; its old public keys stay accepted until you delete
        their lines. Copy the .public file to all nodes and reload their daemons (SIGHUP), then the
        .secret file to those of the role: reload gateways, restart coordinator and workers, whose
        sockets keep the key that they listen with. At last delete the old line and reload again.

        """

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        var (folder, role): (String?, KeyRole?)
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if argument == "--rotate" || argument.hasPrefix("--rotate=") {
                role = try self.role(argument, &rest)
            } else if argument.hasPrefix("-") {
                throw .usage("keys: unknown option \"\(argument)\"\n\(page)")
            } else if folder == nil {
                folder = argument
            } else {
                throw .usage("keys: one folder at a time, not also \"\(argument)\"")
            }
        }
        guard let folder else { throw .usage("keys: which folder?\n\(page)") }
        do throws(KeyError) {
            if let role {
                try KeyFolder(folder).rotate(role)
                output.write(
                    "\(folder): the \(role.rawValue) has a new key; the old one stays valid "
                        + "until its line in \(role.rawValue).public is deleted\n")
            } else {
                try KeyFolder(folder).create()
                let roles = KeyRole.allCases.map(\.rawValue).joined(separator: ", ")
                output.write(
                    "\(folder): keys of \(roles); give --keys \(folder) to every daemon\n")
            }
        } catch {
            throw .failed(error.description)
        }
        return .success
    }

    private static func role(
        _ argument: String, _ rest: inout ArraySlice<String>
    ) throws(ControlError) -> KeyRole {
        let name =
            argument == "--rotate" ? rest.popFirst() : String(argument.dropFirst("--rotate=".count))
        guard let name, let role = KeyRole(rawValue: name) else {
            let known = KeyRole.allCases.map(\.rawValue).joined(separator: ", ")
            throw .usage("keys: --rotate \(name ?? ""): is no role; there are \(known)")
        }
        return role
    }
}
