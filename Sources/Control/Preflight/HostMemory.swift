internal import Glibc

/// How much memory this process's unit may use, also where `/proc` shows processes alone
/// (`ProcSubset=pid`): then the C library knows what there is.
enum HostMemory {
    static var current: ModelChecks.Memory {
        let text = SystemFiles.read("/proc/meminfo") ?? ""
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        return ModelChecks.Memory(
            total: SystemFiles.kilobytes("MemTotal", in: text)
                ?? page * Int(sysconf(Int32(_SC_PHYS_PAGES))),
            available: SystemFiles.kilobytes("MemAvailable", in: text)
                ?? page * Int(sysconf(Int32(_SC_AVPHYS_PAGES))),
            groupLimit: groupLimit(
                of: SystemFiles.read("/proc/self/cgroup") ?? "",
                limit: { SystemFiles.integer("/sys/fs/cgroup\($0)/memory.max") }))
    }

    /// The smallest limit of the control group and those around it.
    ///
    /// - Parameters:
    ///   - table: of `/proc/self/cgroup`; version 2 has the line `0::/path`.
    ///   - limit: of the group at a path.
    static func groupLimit(of table: String, limit: (String) -> Int?) -> Int? {
        guard let line = table.split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) else {
            return limit("")
        }
        var path = String(line.dropFirst(3))
        var smallest: Int?
        while true {
            if path == "/" { path = "" }
            if let found = limit(path) { smallest = min(smallest ?? found, found) }
            guard let slash = path.lastIndex(of: "/") else { return smallest }
            path = String(path[..<slash])
        }
    }
}
