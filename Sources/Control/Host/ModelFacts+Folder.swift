internal import DaemonRuntime
internal import Glibc

extension ModelFacts {
    private static let configurationBytesMax = 1 << 20

    /// Looks into the folder at `path`.
    init(folder path: String?) {
        guard let path else {
            self.init(path: nil, problem: nil, experts: nil)
            return
        }
        var status = stat()
        guard stat(path, &status) == 0 else {
            self.init(path: path, problem: "there is no such folder", experts: nil)
            return
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            self.init(path: path, problem: "is no folder", experts: nil)
            return
        }
        let contents: [UInt8]
        do throws(FileError) {
            contents = try FileContents.read(
                "\(path)/config.json", bytesMax: Self.configurationBytesMax)
        } catch {
            self.init(path: path, problem: "its config.json \(error)", experts: nil)
            return
        }
        do throws(JSONError) {
            let root = try JSONDocument(contents).root
            var experts: Experts?
            if let count = root["n_routed_experts"]?.integer,
                let perToken = root["num_experts_per_tok"]?.integer,
                let hiddenSize = root["hidden_size"]?.integer,
                [count, perToken, hiddenSize].allSatisfy({ (1...1_048_576).contains($0) })
            {
                experts = Experts(count: count, perToken: perToken, hiddenSize: hiddenSize)
            }
            self.init(path: path, problem: nil, experts: experts)
        } catch {
            self.init(path: path, problem: "its config.json: \(error.reason)", experts: nil)
        }
    }
}
