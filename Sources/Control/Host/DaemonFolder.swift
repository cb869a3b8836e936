internal import Glibc

/// Where the daemons' programs are.
enum DaemonFolder {
    /// `folder`, or the one of this program.
    static func find(_ folder: String?) throws(ControlError) -> String {
        let place = folder ?? own()
        for role in Deployment.Role.allCases where access("\(place)/\(role.rawValue)", X_OK) != 0 {
            throw .usage("there is no program \(role.rawValue) in \(place): give --bin FOLDER")
        }
        return place
    }

    /// The program of a plan that nobody starts here: with its folder, where that is known.
    static func program(_ role: Deployment.Role, in folder: String?) -> String {
        let place = folder ?? own()
        let path = "\(place)/\(role.rawValue)"
        return folder != nil || access(path, X_OK) == 0 ? path : role.rawValue
    }

    private static func own() -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path = String(
            decoding: buffer.prefix(max(count, 0)).map(UInt8.init(bitPattern:)), as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }
}
