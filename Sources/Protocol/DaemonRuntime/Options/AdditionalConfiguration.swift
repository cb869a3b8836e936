/// `--additional-config`: what vLLM's hardware plugins take as one JSON object. Of vLLM-Ascend's
/// keys this honours `ascend_scheduler_config`, and accepts `torchair_graph_config`, for which the
/// CPU has nothing to capture; everything else is refused by name.
public struct AdditionalConfiguration: Hashable, Sendable {
    /// Steps compute prompts, whole, or else decode: never both.
    public private(set) var prefillFirst = false

    /// What was accepted without effect, and why.
    public private(set) var notes: [String] = []

    private static let ascendScheduler = "ascend_scheduler_config"
    private static let torchairGraph = "torchair_graph_config"
    private static let torchairKeys = [
        "enabled", "mode", "enable_kv_nz", "enable_multistream_mla", "enable_multistream_moe",
        "enable_super_kernel", "enable_view_optimize", "enable_frozen_parameter",
        "use_cached_graph", "use_cached_kv_cache_bytes", "graph_batch_sizes",
        "graph_batch_sizes_init",
    ]

    /// - Parameter text: one JSON object.
    public init(_ text: String) throws(OptionError) {
        let document: JSONDocument
        do throws(JSONError) {
            document = try JSONDocument(Array(text.utf8))
        } catch {
            throw OptionError(description: "\"\(text)\" is not JSON: \(error.reason)")
        }
        guard let members = document.root.members else {
            throw OptionError(description: "\"\(text)\" is not a JSON object")
        }
        for (key, value) in members {
            switch key {
            case Self.ascendScheduler: try takeAscendScheduler(value)
            case Self.torchairGraph: try takeTorchairGraph(value)
            default:
                throw OptionError(
                    description: "unknown key \"\(key)\"; there are \(Self.ascendScheduler) and "
                        + "\(Self.torchairGraph)")
            }
        }
    }

    private mutating func takeTorchairGraph(_ value: JSONValue) throws(OptionError) {
        guard let members = value.members else {
            throw OptionError(description: "\(Self.torchairGraph) is not an object")
        }
        for (key, _) in members where !Self.torchairKeys.contains(key) {
            let hint =
                OptionTable.nearest(to: key, among: Self.torchairKeys)
                .map { "; did you mean \"\($0)\"?" } ?? ""
            throw OptionError(description: "unknown key \"\(Self.torchairGraph).\(key)\"\(hint)")
        }
        notes.append("\(Self.torchairGraph) has no effect: the CPU has no graph to capture")
    }

    private mutating func takeAscendScheduler(_ value: JSONValue) throws(OptionError) {
        guard let members = value.members else {
            throw OptionError(description: "\(Self.ascendScheduler) is not an object")
        }
        var (isEnabled, chunks) = (false, false)
        for (key, value) in members {
            let name = "\(Self.ascendScheduler).\(key)"
            guard key == "enabled" || key == "enable_chunked_prefill" else {
                throw OptionError(
                    description: "unknown key \"\(name)\"; there are enabled and "
                        + "enable_chunked_prefill")
            }
            guard let flag = value.bool else {
                throw OptionError(description: "\(name) is not true or false")
            }
            if key == "enabled" { isEnabled = flag } else { chunks = flag }
        }
        // As in vLLM-Ascend: with chunks its scheduler leaves the work to vLLM's own.
        prefillFirst = isEnabled && !chunks
    }

    /// Why `text` is not acceptable, or nil.
    @Sendable static func problem(with text: String) -> String? {
        do throws(OptionError) {
            _ = try AdditionalConfiguration(text)
            return nil
        } catch {
            return error.description
        }
    }
}
