import Foundation

/// One rule of STYLE.md: why it is there, and where a file breaks it.
struct TidyRule: Sendable, CustomStringConvertible {
    let name: String
    let why: String
    let check: @Sendable (SourceFile) -> [Violation]

    struct Violation: Sendable {
        let line: Int
        let what: String
    }

    var description: String { name }

    /// Lines of code, without comments and literals, in which `pattern` matches.
    static func forbid(
        _ pattern: String, in files: @escaping @Sendable (SourceFile) -> Bool
    ) -> @Sendable (SourceFile) -> [Violation] {
        { file in
            guard files(file) else { return [] }
            return file.code.enumerated().compactMap { index, line in
                line.range(of: pattern, options: .regularExpression).map {
                    Violation(line: index + 1, what: String(line[$0]))
                }
            }
        }
    }

    /// The same over comments and literals too.
    static func forbidText(
        _ pattern: String, unless allowed: String = "^$"
    ) -> @Sendable (SourceFile) -> [Violation] {
        { file in
            file.lines.enumerated().compactMap { index, line in
                guard line.range(of: allowed, options: .regularExpression) == nil else {
                    return nil
                }
                return line.range(of: pattern, options: .regularExpression).map {
                    Violation(line: index + 1, what: String(line[$0]))
                }
            }
        }
    }

    static let pureFolders = [
        "Lockstep", "Scheduler", "KVCache", "Sampling", "Admission", "Requests", "Routing",
        "Membership", "Views", "Operators", "Plan",
    ]

    /// Who may give up the compiler's check of threads, and what guards the state instead.
    static let uncheckedAllowed: [String: String] = [
        "Sources/Protocol/DaemonRuntime/EventLoop/Lock.swift": "the mutex guards the value",
        "Sources/Protocol/DaemonRuntime/ZeroMQ/ZeroMQSocket.swift":
            "zmq_ctx_new(3): a context is thread-safe",
        "Sources/EngineWorker/Model/ExpertShare.swift":
            "made on one thread, loaded on another and handed back, never used by two",
        "Sources/EngineWorker/Collectives/CollectivesEndpoint.swift":
            "made on one thread and handed to another, never used by two",
        "Sources/EngineWorker/Collectives/SharedMemoryInbox.swift":
            "what other processes write is atomic; the rest never changes",
        "Sources/EngineWorker/Collectives/UCXWorker.swift":
            "handed over with its endpoint, never used by two threads",
        "Sources/EngineWorker/Checkpoint/MappedFile.swift": "the mapping is read-only",
        "Tests/EngineWorkerTests/Model/InProcessCollectives.swift": "its condition guards all",
        "Tests/IntegrationTests/Support/Goldens.swift": "its lock guards the values",
        "Tests/IntegrationTests/Support/HTTPClient.swift": "used by one thread at a time",
        "Tests/IntegrationTests/Support/RunningDaemon.swift":
            "a condition guards the lines; the process belongs to the test's thread",
        "Tests/IntegrationTests/Support/RunningLauncher.swift":
            "a condition guards what arrives; the process belongs to the test's thread",
    ]

    static let daemons = ["Gateway", "Coordinator", "EngineWorker"]
    /// No part of a deployment: the load generator makes its prompts with the gateway's tokenizer,
    /// the operator's tool reads checkpoints as a worker does.
    static let clients = ["Bench", "Control"]

    static let all: [TidyRule] = imports + code + shape + text

    static let imports: [TidyRule] = [
        TidyRule(
            name: "pure folders import Protocol alone",
            why: "What decides must run in a simulation: no socket, clock, log or system call."
        ) { file in
            guard file.isSource, file.isSwift, pureFolders.contains(where: file.has(folder:)) else {
                return []
            }
            // The passes over a row of logits are functions of their arguments alone, to the bit.
            let allowed = ["Protocol"] + (file.has(folder: "Sampling") ? ["CKernels"] : [])
            return file.imports.filter { !allowed.contains($0.module) }.map {
                Violation(line: $0.line, what: "import \($0.module)")
            }
        },
        TidyRule(
            name: "no Foundation in Sources",
            why: "It brings megabytes and ICU into every daemon for what Glibc does."
        ) { file in
            guard file.isSource else { return [] }
            return file.imports.filter { $0.module.hasPrefix("Foundation") }.map {
                Violation(line: $0.line, what: "import \($0.module)")
            }
        },
        TidyRule(
            name: "daemons never import each other",
            why: "They meet in messages only, so that each can be replaced and tested alone."
        ) { file in
            guard file.isSource, file.isSwift, !file.path.contains("/Daemon/") else { return [] }
            let folder = file.path.split(separator: "/").dropFirst().first.map(String.init) ?? ""
            if clients.contains(folder) { return [] }
            return file.imports.filter { daemons.contains($0.module) && $0.module != folder }.map {
                Violation(line: $0.line, what: "\(folder) imports \($0.module)")
            }
        },
        TidyRule(
            name: "Protocol imports its C code alone",
            why: "The messages are the one thing that everybody shares; nothing may hang on them."
        ) { file in
            guard file.path.hasPrefix("Sources/Protocol/"), file.isSwift,
                !file.has(folder: "DaemonRuntime")
            else {
                return []
            }
            return file.imports.filter { !["CProtocol", "Glibc"].contains($0.module) }.map {
                Violation(line: $0.line, what: "import \($0.module)")
            }
        },
    ]

    static let code: [TidyRule] = [
        TidyRule(
            name: "no traps by convenience",
            why: "Outside input must not end a daemon; our own bugs end it with values in a text.",
            check: forbid(#"\b(try!|as!|fatalError\s*\()"#) { $0.isSwift && $0.isSource }),
        TidyRule(
            name: "no sleeping",
            why: "A sleep is either too short or too long; wait for the event instead.",
            check: forbid(#"(\.sleep\b|\busleep\s*\(|\bsleep\s*\(|\bnanosleep\s*\()"#) {
                $0.isSwift && !$0.path.hasPrefix("Tests/IntegrationTests/")
            }),
        TidyRule(
            name: "no empty catch", why: "An error is handled or translated, never forgotten.",
            check: forbid(#"\bcatch\s*(\([^)]*\)\s*)?\{\s*\}"#) { $0.isSwift }),
        TidyRule(
            name: "synchronous event loops",
            why: "An actor is re-entered at every await, and its order cannot be replayed.",
            check: forbid(#"\b(actor\s+\w+|async\b|await\b|Task(\.detached)?\s*\{)"#) {
                $0.isSwift
                    && ($0.path.hasPrefix("Sources/Coordinator/")
                        || $0.path.hasPrefix("Sources/EngineWorker/"))
            }),
        TidyRule(
            name: "unchecked concurrency has a reason",
            why: "Where the compiler does not check, a sentence says who guards what."
        ) { file in
            if uncheckedAllowed[file.path] != nil { return [] }
            return forbid(#"(@unchecked\s+Sendable|nonisolated\(unsafe\))"#) {
                $0.isSwift && !$0.has(folder: "TidyTests")
            }(file)
        },
        TidyRule(
            name: "no fixed ports in tests",
            why: "Two runs on one machine must not meet; the system picks the port.",
            check: { file in
                guard file.isTest, file.isSwift, !file.has(folder: "TidyTests") else { return [] }
                let call = #"\b(listen|connect|bind)\w*\(.*(:|port:\s*)([1-9][0-9]{3,4})\b"#
                return forbidText(call)(file)
            }),
        TidyRule(
            name: "every test expects something", why: "A test that cannot fail tests nothing."
        ) { file in
            guard file.isTest, file.isSwift else { return [] }
            return file.functions.filter { function in
                // The attribute stands on the line, or above it, or ends there.
                let own = file.code[function.line - 1]
                let above = file.code[max(0, function.line - 2)]
                let ended = above.range(of: #"^\s*\]?\)\s*$"#, options: .regularExpression) != nil
                let isAbove = above.contains("@Test") && !above.contains("func ")
                guard own.contains("@Test") || isAbove || ended else { return false }
                let body = file.code[(function.line - 1)..<(function.line - 1 + function.lineCount)]
                    .joined()
                let expects = #"(#expect|#require|Issue\.record|\bexpect[A-Z]\w*\(|\.expect[A-Z])"#
                return body.range(of: expects, options: .regularExpression) == nil
            }.map { Violation(line: $0.line, what: $0.name) }
        },
    ]

    static let shape: [TidyRule] = [
        TidyRule(
            name: "files have at most 400 lines", why: "A file is read in one sitting (C: 1000)."
        ) { file in
            let limit = file.isSwift ? 400 : 1000
            let count = file.lines.last == "" ? file.lines.count - 1 : file.lines.count
            if file.isGenerated || count <= limit { return [] }
            return [Violation(line: limit + 1, what: "\(count) lines")]
        },
        TidyRule(name: "functions have at most 60 lines", why: "A function fits on a screen.") {
            file in
            guard file.isSwift else { return [] }
            return file.functions.filter { $0.lineCount > 60 }.map {
                Violation(line: $0.line, what: "\($0.lineCount) lines: \($0.name)")
            }
        },
        TidyRule(name: "lines have at most 100 columns", why: "Two files fit side by side.") {
            file in
            if file.isGenerated { return [] }
            return file.lines.enumerated().filter { $0.element.count > 100 }.map {
                Violation(line: $0.offset + 1, what: "\($0.element.count) columns")
            }
        },
    ]

    static let text: [TidyRule] = [
        TidyRule(
            name: "open work has an issue number",
            why: "What nobody has written down is never done.",
            check: forbidText(#"\b(TO"# + #"DO|FIX"# + #"ME)\b(?!\(#[0-9]+\))"#)),
        TidyRule(
            name: "no paths and hosts of one machine",
            why: "The tree is built anywhere.",
            check: forbidText(
                #"(/ho"# + #"me/\w|/wo"# + #"rk/\w|/Us"# + #"ers/\w|/ro"# + #"ot/\w|docker\."#
                    + #"io|ghcr\.|quay\.|pypi\.|npmjs\.)"#)),
    ]
}
