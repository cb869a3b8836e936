import DaemonRuntime
import Testing

@testable import Control

/// What a line of `vllm serve` leaves out follows from the host.
@Suite struct DeploymentReaderTests {
    static let host = HostFacts(
        name: "node-a", processors: 32, interfaces: PlannerTests.interfaces, folder: "/srv")

    static func deployment(_ arguments: [String]) throws -> Deployment {
        let serve = try ServeArguments(arguments, own: [:])
        return try DeploymentReader(
            options: serve.options, host: host, binaries: "/bin", localName: nil
        ).read()
    }

    static func command(_ role: Deployment.Role, _ arguments: [String]) throws -> [String] {
        try #require(try deployment(arguments).nodes.first?.commands[role])
    }

    @Test func addressInterfaceAndThreadsAreDerived() throws {
        let line = ["/m", "-dp", "4", "-dpl", "2", "-tp", "4", "-dpa", "10.0.0.1"]
        let command = try Self.command(.worker, line)
        #expect(command.first == "/bin/phalanx-engine-worker")
        for part in [
            "--worker-address=10.0.0.1", "--collectives-device=eth1", "--worker-threads=4",
            "--data-parallel-start-rank=0", "--tensor-parallel-size=4",
        ] {
            #expect(command.contains(part), "\(part): \(command)")
        }
        #expect(!command.contains { $0.hasPrefix("--model") })
        let node = try #require(try Self.deployment(line).nodes.first)
        #expect(node.interface == "eth1" && node.devices.count == 8 && node.runsCoordinator)
    }

    @Test func whatIsGivenIsNotDerived() throws {
        let command = try Self.command(
            .worker,
            [
                "/m", "-dpa", "10.0.0.1", "--worker-address", "192.168.1.5",
                "--collectives-device=mlx5_0:1", "--worker-threads", "3",
            ])
        #expect(command.contains("--worker-address=192.168.1.5"))
        #expect(command.contains("--collectives-device=mlx5_0:1"))
        #expect(command.contains("--worker-threads=3"))
        #expect(command.count { $0.hasPrefix("--worker-threads") } == 1)
        #expect(command.count { $0.hasPrefix("--collectives-device") } == 1)
    }

    @Test func onTheLoopbackNothingIsBoundElsewhere() throws {
        let command = try Self.command(.worker, ["/m"])
        #expect(command.contains("--worker-address=127.0.0.1"))
        #expect(!command.contains { $0.hasPrefix("--collectives-device") })
        #expect(!command.contains { $0.hasPrefix("--data-parallel-start-rank") })
    }

    @Test func eachDaemonTakesItsOwnOptions() throws {
        let line = ["/m", "--port", "1", "--lease", "900", "--shutdown-timeout", "7", "--seed=3"]
        let coordinator = try Self.command(.coordinator, line)
        #expect(
            coordinator == ["/bin/phalanx-coordinator", "--model=/m", "--lease=900", "--seed=3"])
        let gateway = try Self.command(.gateway, line)
        #expect(gateway == ["/bin/phalanx-gateway", "--port=1", "--shutdown-timeout=7"])
    }

    static let roles: [(arguments: [String], coordinator: Bool, gateway: Bool, workers: Int)] = [
        ([], true, true, 2), (["--headless"], false, false, 2),
        (["-dpl", "0"], true, true, 0), (["-dpl", "1", "-dpr", "1"], false, true, 1),
        (["--no-headless", "-dpl=1"], true, true, 1),
    ]

    @Test(arguments: roles)
    func aLineSaysWhichProcessesThereAre(
        arguments: [String], coordinator: Bool, gateway: Bool, workers: Int
    ) throws {
        let node = try #require(
            try Self.deployment(["/m", "-dp", "2", "-ep"] + arguments).nodes.first)
        #expect(node.runsCoordinator == coordinator)
        #expect(node.runsGateway == gateway)
        #expect(node.devices.count == workers)
    }
}
