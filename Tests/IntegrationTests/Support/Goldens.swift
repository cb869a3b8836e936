import Foundation

/// Prompts and greedy continuations that another implementation computed.
struct Goldens {
    struct Case {
        let prompt: [Int]
        let tokens: [Int]
        /// Distance between the best and the second logit at each step.
        let margins: [Double]

        /// The first step at which a less exact run may choose otherwise.
        func firstUncertain(below limit: Double) -> Int {
            margins.firstIndex { $0 <= limit } ?? margins.count
        }
    }

    let cases: [Case]

    init(_ model: String) throws {
        let folder = RunningDaemon.root.appendingPathComponent("Tests/Fixtures/goldens")
        let prompts = try Self.list(
            folder.appendingPathComponent(
                model.hasPrefix("demo") ? "prompts-demo.json" : "prompts-tiny.json"))
        let greedy = try Self.list(folder.appendingPathComponent("\(model)/greedy.json"))
        cases = zip(prompts, greedy).map { prompt, golden in
            Case(
                prompt: prompt["ids"] as? [Int] ?? [],
                tokens: golden["tokens"] as? [Int] ?? [],
                margins: golden["margin"] as? [Double] ?? [])
        }
    }

    private static func list(_ url: URL) throws -> [[String: Any]] {
        try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [[String: Any]] ?? []
    }
}

extension HTTPClient {
    /// `count` greedy tokens after a prompt of token ids, on one rank if it is named.
    func greedy(_ prompt: [Int], _ count: Int = 32, rank: Int? = nil) throws -> Answer {
        try post(
            "/v1/completions",
            [
                "prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": true,
                "return_token_ids": true,
            ],
            headers: rank.map { ["X-data-parallel-rank": "\($0)"] } ?? [:])
    }

    /// The same question from several clients at once; answers in the order of the questions.
    func all<Result: Sendable>(
        _ count: Int, _ body: @escaping @Sendable (Int) throws -> Result
    ) throws -> [Result] {
        let results = Results<Result>(count: count)
        // A thread each: a pool would ask only as many at once as there are processors.
        let group = DispatchGroup()
        for index in 0..<count {
            group.enter()
            Thread.detachNewThread {
                results.set(index, Swift.Result { try body(index) })
                group.leave()
            }
        }
        group.wait()
        return try results.all()
    }
}

private final class Results<Value: Sendable>: @unchecked Sendable {
    // Guarded by the lock.
    private let lock = NSLock()
    private var values: [Swift.Result<Value, any Error>?]

    init(count: Int) { values = Array(repeating: nil, count: count) }

    func set(_ index: Int, _ value: Swift.Result<Value, any Error>) {
        lock.withLock { values[index] = value }
    }

    func all() throws -> [Value] {
        try lock.withLock { try values.compactMap { try $0?.get() } }
    }
}
