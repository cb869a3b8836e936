// swift-tools-version: 6.1
import PackageDescription

/// Every Swift target is compiled in the Swift 6 language mode, warnings are errors, and a file
/// imports what it uses, so that the import rules of STYLE.md can be checked by reading imports.
let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .unsafeFlags(["-warnings-as-errors"]),
]

let cSettings: [CSetting] = [
    .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-std=gnu17"]),
    .unsafeFlags(["-O3"], .when(configuration: .release)),
]

let cxxSettings: [CXXSetting] = [
    .unsafeFlags(["-Wall", "-Wextra", "-Werror", "-std=c++17"]),
    .unsafeFlags(["-O3"], .when(configuration: .release)),
]

let package = Package(
    name: "phalanx",
    products: [
        .executable(name: "phalanx-gateway", targets: ["phalanx-gateway"]),
        .executable(name: "phalanx-coordinator", targets: ["phalanx-coordinator"]),
        .executable(name: "phalanx-engine-worker", targets: ["phalanx-engine-worker"]),
        .executable(name: "phalanx-bench", targets: ["phalanx-bench"]),
        .executable(name: "phalanxctl", targets: ["phalanxctl"]),
    ],
    targets: [
        // System libraries, by module map.
        .systemLibrary(name: "CZeroMQ"),
        .systemLibrary(name: "CProtobufC"),
        .systemLibrary(name: "CSystemd"),
        .systemLibrary(name: "CPCRE2"),
        .systemLibrary(name: "CYAML"),
        .systemLibrary(name: "COpenSSL"),

        // C and C++ of our own: generated code, shims and kernels.
        .target(name: "CLinux", cSettings: cSettings),
        .target(name: "CSharedRing", cSettings: cSettings),
        .target(
            name: "CProtocol",
            dependencies: ["CProtobufC"],
            cSettings: cSettings,
            linkerSettings: [.linkedLibrary("protobuf-c")]
        ),
        .target(
            name: "CSimdJSON",
            cxxSettings: cxxSettings,
            linkerSettings: [.linkedLibrary("simdjson")]
        ),
        .target(
            name: "CUCX",
            cSettings: cSettings,
            linkerSettings: [.linkedLibrary("ucp"), .linkedLibrary("ucs")]
        ),
        // Optimised in debug builds too: plain loops without it make tests a hundred times slower.
        .target(
            name: "CKernels",
            cSettings: cSettings + [.unsafeFlags(["-O2"], .when(configuration: .debug))],
            linkerSettings: [.linkedLibrary("m")]
        ),

        // What the daemons share: messages and codec (pure), and the run-time around them.
        .target(
            name: "Protocol",
            dependencies: ["CProtocol"],
            exclude: ["Schema", "DaemonRuntime"],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "DaemonRuntime",
            dependencies: ["Protocol", "CLinux", "CZeroMQ", "CSystemd", "CYAML", "CSimdJSON"],
            path: "Sources/Protocol/DaemonRuntime",
            swiftSettings: swiftSettings
        ),

        // The three daemons: a library each, and an executable of one small file.
        .target(
            name: "Gateway",
            dependencies: ["Protocol", "DaemonRuntime", "CLinux", "CPCRE2", "COpenSSL"],
            exclude: ["Daemon"],
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "phalanx-gateway",
            dependencies: ["Gateway", "DaemonRuntime"],
            path: "Sources/Gateway/Daemon",
            swiftSettings: swiftSettings
        ),
        .target(
            name: "Coordinator",
            dependencies: ["Protocol", "DaemonRuntime"],
            exclude: ["Daemon"],
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "phalanx-coordinator",
            dependencies: ["Coordinator", "DaemonRuntime"],
            path: "Sources/Coordinator/Daemon",
            swiftSettings: swiftSettings
        ),
        .target(
            name: "EngineWorker",
            dependencies: [
                "Protocol", "DaemonRuntime", "CLinux", "CSharedRing", "CUCX", "CKernels",
            ],
            exclude: ["Daemon"],
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "phalanx-engine-worker",
            dependencies: ["EngineWorker", "DaemonRuntime"],
            path: "Sources/EngineWorker/Daemon",
            swiftSettings: swiftSettings
        ),

        // The load generator: a client, with the gateway's tokenizer.
        .target(
            name: "Bench",
            dependencies: ["Gateway", "DaemonRuntime", "Protocol", "CLinux"],
            exclude: ["Command", "Engine"],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "EngineBench",
            dependencies: ["EngineWorker", "DaemonRuntime", "Protocol"],
            path: "Sources/Bench/Engine",
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "phalanx-bench",
            dependencies: ["Bench", "EngineBench", "DaemonRuntime"],
            path: "Sources/Bench/Command",
            swiftSettings: swiftSettings
        ),

        // The operator's tool.
        .target(
            name: "Control",
            dependencies: ["EngineWorker", "DaemonRuntime", "Protocol", "CKernels", "CLinux"],
            exclude: ["Main"],
            swiftSettings: swiftSettings
        ),
        .executableTarget(
            name: "phalanxctl",
            dependencies: ["Control"],
            path: "Sources/Control/Main",
            swiftSettings: swiftSettings
        ),

        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: swiftSettings),
        .testTarget(
            name: "ProtocolTests",
            dependencies: ["Protocol", "TestSupport"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "DaemonRuntimeTests",
            dependencies: ["DaemonRuntime", "Protocol", "CZeroMQ", "TestSupport"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "GatewayTests",
            dependencies: ["Gateway", "DaemonRuntime", "Protocol", "TestSupport"],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "CoordinatorTests",
            dependencies: ["Coordinator", "DaemonRuntime", "Protocol", "TestSupport"],
            swiftSettings: swiftSettings
        ),
        // A member of a group in a process of its own, for tests that kill it.
        .executableTarget(
            name: "collectives-peer",
            dependencies: ["EngineWorker", "DaemonRuntime", "Protocol"],
            path: "Tests/CollectivesPeer",
            swiftSettings: swiftSettings
        ),
        // The scheduler's cost, in a process whose allocations are counted.
        .target(
            name: "CAllocationCounter", path: "Tests/CAllocationCounter", cSettings: cSettings),
        .executableTarget(
            name: "scheduler-benchmark",
            dependencies: ["CAllocationCounter", "EngineWorker", "DaemonRuntime", "Protocol"],
            path: "Tests/SchedulerBenchmark",
            swiftSettings: swiftSettings
        ),
        // Kernel calls, for a program that counts their instructions.
        .executableTarget(
            name: "kernel-counts",
            dependencies: ["CKernels"],
            path: "Tests/KernelCounts",
            exclude: ["counts.tsv"],
            cSettings: cSettings
        ),
        // The same for whole ticks.
        .executableTarget(
            name: "tick-benchmark",
            dependencies: ["CAllocationCounter", "EngineWorker", "DaemonRuntime", "Protocol"],
            path: "Tests/TickBenchmark",
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "EngineWorkerTests",
            dependencies: [
                "EngineWorker", "DaemonRuntime", "Protocol", "CKernels", "collectives-peer",
                "scheduler-benchmark", "tick-benchmark",
            ],
            swiftSettings: swiftSettings
        ),
        // Two hosts on one: a link with delay and loss, and sockets on the other side of it.
        .executableTarget(
            name: "network-relay", path: "Tests/NetworkRelay", cSettings: cSettings),
        .target(
            name: "CNetworkNamespace", path: "Tests/CNetworkNamespace", cSettings: cSettings),
        .testTarget(
            name: "IntegrationTests",
            dependencies: [
                "DaemonRuntime", "Protocol", "CLinux", "CNetworkNamespace", "network-relay",
                "TestSupport",
            ],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "SimulationTests",
            dependencies: ["Coordinator", "EngineWorker", "Gateway", "Protocol", "TestSupport"],
            path: "Tests/Simulation",
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "BenchTests",
            dependencies: [
                "Bench", "Gateway", "DaemonRuntime", "Protocol", "CLinux", "TestSupport",
            ],
            swiftSettings: swiftSettings
        ),
        .testTarget(
            name: "ControlTests",
            dependencies: ["Control", "DaemonRuntime", "Protocol", "CLinux", "TestSupport"],
            swiftSettings: swiftSettings
        ),
        .testTarget(name: "TidyTests", swiftSettings: swiftSettings),
    ]
)
