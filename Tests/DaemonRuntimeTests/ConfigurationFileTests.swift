import Foundation
import Testing

@testable import DaemonRuntime

@Suite struct ConfigurationFileTests {
    static func parse(
        _ contents: [UInt8], flags: [String] = []
    ) throws -> Result<Options, OptionError> {
        let path = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx-\(UUID().uuidString).yaml").path
        try Data(contents).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return OptionsTests.options(["--config", path] + flags)
    }

    static func parse(_ text: String, flags: [String] = []) throws -> Options {
        try parse(Array(text.utf8), flags: flags).get()
    }

    @Test func keysAreOptionsWithEitherSpelling() throws {
        let options = try Self.parse(
            """
            # a comment
            model: /m
            max_num_seqs: 8
            enable-expert-parallel: yes
            enable_chunked_prefill: Off
            api-key: [a, "b"]
            lease: 700   # of another daemon
            """)
        #expect(options.text("model") == "/m")
        #expect(options.integer("max-num-seqs") == 8)
        #expect(options.flag("enable-expert-parallel"))
        #expect(!options.flag("enable-chunked-prefill"))
        #expect(options.list("api-key") == ["a", "b"])
    }

    @Test func flagsOverrideTheFileAndTheFileOverridesDefaults() throws {
        let file = "port: 81\nhost: file\napi-key:\n- a\n"
        let options = try Self.parse(file, flags: ["--port", "82", "--api-key", "b"])
        #expect(options.integer("port") == 82)
        #expect(options.text("host") == "file")
        #expect(options.list("api-key") == ["b"])
    }

    @Test(arguments: ["", "# nothing\n", "---\n", "{}\n", "\n\n", "api-key: []\n"])
    func aFileWithNothingInItIsFine(text: String) throws {
        #expect(try Self.parse(text).integer("port") == 8000)
    }

    static let refusals: [(text: String, parts: [String])] = [
        ("model: m\nprot: 80\n", ["line 2", "unknown option \"prot\"", "\"port\""]),
        ("\n\nport: eighty\n", ["line 3", "not a whole number"]),
        ("port: 1\nhost: x\nport: 2\n", ["line 3", "port is given twice"]),
        ("max_num_seqs: 1\nmax-num-seqs: 2\n", ["line 2", "given twice"]),
        ("port: [1, 2]\n", ["line 1", "takes one value, not a list"]),
        ("api-key: [[a], b]\n", ["line 1", "list"]),
        ("api-key: [[a], port, 5]\n", ["line 1", "list"]),
        ("api-key: {a: b}\n", ["line 1", "api-key", "mapping"]),
        ("host:\n  port: 1\n", ["line 2", "host", "mapping"]),
        ("host: &a x\nmodel: *a\n", ["line 2", "aliases are not supported"]),
        ("- port\n- 80\n", ["line 1", "option: value"]),
        ("hello\n", ["line 1", "option: value"]),
        ("? [a]\n: b\n", ["line 1"]),
        ("? {a: b}\n: c\n", ["line 1"]),
        ("host: \"open\nport: 1\n", ["line "]),
        ("port: 1\n\thost: x\n", ["line 2"]),
        ("port:\n", ["line 1", "not a whole number"]),
        ("enable-expert-parallel: 'yes'\n", ["line 1", "not true or false"]),
        ("config: other.yaml\n", ["line 1", "config", "in a file"]),
        ("dtype: float16\n", ["line 1", "dtype", "float32"]),
    ]

    @Test(arguments: refusals)
    func aRefusalNamesTheLine(text: String, parts: [String]) throws {
        let result = try Self.parse(Array(text.utf8))
        guard case .failure(let error) = result else {
            Issue.record("\(text) is accepted")
            return
        }
        for part in parts { #expect(error.description.contains(part), "\(error)") }
    }

    @Test func bytesThatAreNoUTF8AreRefusedWithTheirLine() throws {
        let result = try Self.parse(Array("port: 1\nhost: ".utf8) + [0xFF, 0xFE, 0x0A])
        guard case .failure(let error) = result else {
            Issue.record("accepted")
            return
        }
        #expect(error.description.contains("line 2"), "\(error)")
    }

    @Test func aFileAboveTheLimitIsRefused() throws {
        let comment = [UInt8](repeating: 0x23, count: 2 << 20)
        guard case .failure(let error) = try Self.parse(comment) else {
            Issue.record("accepted")
            return
        }
        #expect(error.description.contains("the limit is 1048576"), "\(error)")
    }

    @Test func damageNeverCrashes() throws {
        let text = Array("model: \"/m\"\napi-key: [a, {b: c}]\nx: &a |\n  t\ny: *a\n".utf8)
        var refused = 0
        for index in text.indices {
            for byte in [0, 0x0A, 0x22, 0x5B, 0x7B, 0xC3, 0xFF] as [UInt8] {
                var damaged = text
                damaged[index] = byte
                if case .failure = try Self.parse(damaged) { refused += 1 }
            }
        }
        #expect(refused > 0)
    }
}
