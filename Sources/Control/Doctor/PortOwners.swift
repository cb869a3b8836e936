/// Who listens on a TCP port of this host, from the kernel's tables.
enum PortOwners {
    struct Listener: Hashable, Sendable {
        let port: Int
        let user: Int
        let inode: String
    }

    /// What is said of processes that are not to be seen.
    static let ofRoot = "a process of root"
    static let ofAnother = "a process of another user"

    /// Listening sockets in the text of `/proc/self/net/tcp` or `.../tcp6`: state 0A.
    static func listeners(in table: String) -> [Listener] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
                let port = Int(fields[1][fields[1].index(after: colon)...], radix: 16),
                let user = Int(fields[7])
            else { return nil }
            return Listener(port: port, user: user, inode: String(fields[9]))
        }
    }

    /// Names and numbers of the processes that listen on `port`, as `name (pid)`. Those of other
    /// users are not to be seen without privileges: of them ``ofRoot`` or ``ofAnother``.
    static func owners(of port: Int) -> [String] {
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].compactMap {
            SystemFiles.read($0)
        }
        let found = tables.flatMap { listeners(in: $0) }.filter { $0.port == port }
        if found.isEmpty { return [] }
        let inodes = Set(found.map(\.inode))
        var names: [String] = []
        for pid in SystemFiles.entries(of: "/proc") where pid.allSatisfy(\.isNumber) {
            let folder = "/proc/\(pid)/fd"
            let holds = SystemFiles.entries(of: folder).contains { descriptor in
                guard let link = SystemFiles.link("\(folder)/\(descriptor)"),
                    link.hasPrefix("socket:[")
                else { return false }
                return inodes.contains(String(link.dropFirst(8).dropLast()))
            }
            if holds {
                let command = SystemFiles.read("/proc/\(pid)/cmdline") ?? ""
                let program = command.split(separator: "\0").first ?? "?"
                names.append("\(program.split(separator: "/").last ?? "?") (\(pid))")
            }
        }
        if !names.isEmpty { return names }
        return [found.allSatisfy { $0.user == 0 } ? ofRoot : ofAnother]
    }
}
