internal import DaemonRuntime
internal import Glibc

/// The daemons that run on this host, found by the names and command lines of its processes.
enum RunningDaemons {
    static func find(host: String) -> [PlanDifference.Daemon] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var processes: [Int] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let process = Int(name) { processes.append(process) }
        }
        return processes.sorted().compactMap { daemon($0, host) }
    }

    private static func daemon(_ process: Int, _ host: String) -> PlanDifference.Daemon? {
        guard let arguments = commandLine(process), let program = arguments.first,
            let name = program.split(separator: "/").last,
            let role = Deployment.Role(rawValue: String(name)),
            let kind = DaemonKind(rawValue: role.rawValue)
        else { return nil }
        let folder = link("/proc/\(process)/cwd")
        do throws(OptionError) {
            let options = try Options(
                daemon: kind, arguments: absolute(Array(arguments.dropFirst()), in: folder),
                host: host)
            return PlanDifference.Daemon(
                name: "process \(process)", role: role, options: options.all)
        } catch {
            return PlanDifference.Daemon(
                name: "process \(process)", role: role, problem: error.description, options: [:])
        }
    }

    /// A file that was given relative to the folder of its process.
    private static func absolute(_ arguments: [String], in folder: String?) -> [String] {
        guard let folder else { return arguments }
        var result = arguments
        for index in result.indices {
            if result[index].hasPrefix("--config="), !result[index].hasPrefix("--config=/") {
                result[index] = "--config=\(folder)/\(result[index].dropFirst(9))"
            } else if index > 0, result[index - 1] == "--config", !result[index].hasPrefix("/") {
                result[index] = "\(folder)/\(result[index])"
            }
        }
        return result
    }

    private static let commandLineBytesMax = 1 << 16

    /// nil: it has ended, or is a kernel thread.
    private static func commandLine(_ process: Int) -> [String]? {
        let descriptor = open("/proc/\(process)/cmdline", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4096)
        while bytes.count < commandLineBytesMax {
            let count = read(descriptor, &part, part.count)
            guard count > 0 else { break }
            bytes += part.prefix(count)
        }
        guard bytes.last == 0 else { return nil }
        return bytes.dropLast().split(separator: 0, omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
    }

    private static func link(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &buffer, buffer.count - 1)
        guard count > 0 else { return nil }
        return String(
            decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
