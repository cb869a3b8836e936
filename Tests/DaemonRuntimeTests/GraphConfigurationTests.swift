import DaemonRuntime
import Testing

/// `torchair_graph_config` of `--additional-config`.
@Suite struct GraphConfigurationTests {
    private func sizes(
        _ members: String, sequences: Int = 16, rows: Int = 2048, tensorParallelSize: Int = 1
    ) throws -> [Int] {
        try AdditionalConfiguration(#"{"torchair_graph_config":{\#(members)}}"#).graph.batchSizes(
            sequencesMax: sequences, rowsMax: rows, tensorParallelSize: tensorParallelSize)
    }

    static let table: [(members: String, sequences: Int, rows: Int, tp: Int, sizes: [Int])] = [
        (#""enabled":true"#, 16, 2048, 1, [1, 2, 4, 8, 16]),
        (#""enabled":true"#, 20, 2048, 1, [1, 2, 4, 8, 16, 20]),
        (#""enabled":true"#, 1, 1, 1, [1]),
        (#""enabled":true"#, 16, 2048, 4, [4, 8, 16]),
        (#""enabled":true"#, 20, 2048, 3, [3, 6, 9, 18, 21]),
        // 21 rows would not fit.
        (#""enabled":true"#, 20, 20, 3, [3, 6, 9, 18]),
        (#""enabled":true,"graph_batch_sizes_init":true"#, 20, 2048, 1, [4, 8, 16, 20]),
        (#""enabled":true,"graph_batch_sizes_init":true"#, 3, 2048, 1, [3]),
        (#""enabled":true,"graph_batch_sizes":[3,5]"#, 16, 2048, 1, [3, 5]),
        (#""enabled":true,"graph_batch_sizes":[3,4,5]"#, 16, 2048, 4, [4, 8]),
        (#""enabled":true,"graph_batch_sizes":[]"#, 4, 2048, 1, [1, 2, 4]),
        (#""enabled":true,"mode":"max-autotune","use_cached_graph":true"#, 2, 64, 1, [1, 2]),
        (#""enabled":false,"mode":"max-autotune""#, 16, 2048, 1, []),
        ("", 16, 2048, 1, []),
    ]

    @Test(arguments: table)
    func theSizesAreThoseOfTheOption(
        members: String, sequences: Int, rows: Int, tp: Int, sizes expected: [Int]
    ) throws {
        let found = try sizes(
            members, sequences: sequences, rows: rows, tensorParallelSize: tp)
        #expect(found == expected)
    }

    static let refusals: [(members: String, parts: [String])] = [
        (#""enabled":1"#, ["torchair_graph_config.enabled is not true or false"]),
        (
            #""enabled":true,"graph_batch_sizes_init":4"#,
            ["graph_batch_sizes_init is not true or false"]
        ),
        (#""enabled":true,"graph_batch_sizes":8"#, ["graph_batch_sizes is not a list"]),
        (#""enabled":true,"graph_batch_sizes":[0,8]"#, ["whole numbers of at least 1"]),
        (#""enabled":true,"graph_batch_sizes":[1.5]"#, ["whole numbers of at least 1"]),
        (#""enabled":true,"graph_batch_sizes":[8,4]"#, ["4 comes after 8", "rising order"]),
        (#""enabled":true,"graph_batch_sizes":[4,4]"#, ["4 comes after 4"]),
        (
            #""enabled":true,"graph_batch_sizes":[4,32]"#,
            ["graph_batch_sizes has 32, more than --max-num-seqs 16"]
        ),
        (
            #""enabled":true,"graph_batch_sizes":[4],"graph_batch_sizes_init":true"#,
            ["leave one of them out"]
        ),
        (#""graph_batch_sizes":[4]"#, ["graph_batch_sizes is without effect unless enabled"]),
        (
            #""enabled":false,"graph_batch_sizes_init":true"#,
            ["graph_batch_sizes_init is without effect unless enabled"]
        ),
        (#""graph_batch_size":[4]"#, ["did you mean \"graph_batch_sizes\"?"]),
    ]

    @Test(arguments: refusals)
    func aRefusalSaysWhatAndWhy(members: String, parts: [String]) {
        let error = #expect(throws: OptionError.self) { try sizes(members) }
        let text = error?.description ?? ""
        for part in parts { #expect(text.contains(part), "\(text)") }
    }

    @Test func sizesThatNoStepHoldsAreRefused() {
        let error = #expect(throws: OptionError.self) {
            try sizes(#""enabled":true"#, sequences: 2, rows: 2, tensorParallelSize: 4)
        }
        #expect(error?.description.contains("--max-num-batched-tokens 2") == true)
    }

    @Test func theNoteSaysWhatBecomesOfIt() throws {
        func notes(_ text: String) throws -> [String] { try AdditionalConfiguration(text).notes }
        #expect(try notes("{}") == [])
        #expect(
            try notes(#"{"torchair_graph_config":{"enabled":true}}"#).first?
                .contains("fills ticks of decoding up") == true)
        #expect(
            try notes(#"{"torchair_graph_config":{}}"#).first?.contains("has no effect") == true)
    }
}
