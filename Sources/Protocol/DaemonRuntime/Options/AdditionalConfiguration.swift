/// `--additional-config`: what vLLM's hardware plugins take as one JSON object. Of vLLM-Ascend's
/// keys this honours `ascend_scheduler_config` and `torchair_graph_config`; everything else is
/// refused by name.
public struct AdditionalConfiguration: Hashable, Sendable {
    /// Steps compute prompts, whole, or else decode: never both.
    public private(set) var prefillFirst = false
    /// Whether ticks of decoding have fixed sizes, and which.
    public private(set) var graph = GraphConfiguration()

    /// What was accepted with less effect than its name says, and why.
    public private(set) var notes: [String] = []

    private static let ascendScheduler = "ascend_scheduler_config"

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
            case GraphConfiguration.key:
                graph = try GraphConfiguration(value)
                notes.append(graph.note)
            default:
                throw OptionError(
                    description: "unknown key \"\(key)\"; there are \(Self.ascendScheduler) and "
                        + "\(GraphConfiguration.key)")
            }
        }
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
