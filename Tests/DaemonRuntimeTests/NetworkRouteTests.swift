import Testing

@testable import DaemonRuntime

@Suite struct NetworkRouteTests {
    @Test(arguments: [
        ("tcp://10.0.0.1:13389", "10.0.0.1", 13389), ("tcp://[::1]:1", "::1", 1),
        ("tcp://node-a:65535", "node-a", 65535),
    ])
    func anEndpointHasAHostAndAPort(endpoint: String, host: String, port: UInt16) {
        let parts = NetworkRoute.parts(of: endpoint)
        #expect(parts?.host == host && parts?.port == port)
    }

    @Test(arguments: [
        "", "tcp://", "tcp://host", "tcp://:1", "ipc://x:1", "tcp://h:65536", "tcp://[]:1",
    ])
    func whatIsNoneHasNone(endpoint: String) {
        #expect(NetworkRoute.parts(of: endpoint) == nil)
        #expect(NetworkRoute.description(toward: endpoint) == "no address")
    }

    @Test func theWayToThisHostIsItsLoopback() {
        #expect(NetworkRoute.description(toward: "tcp://127.0.0.1:9") == "from 127.0.0.1 on lo")
    }

    @Test func aNameThatNobodyHasIsSaid() {
        let text = NetworkRoute.description(toward: "tcp://no-such-host.invalid:9")
        #expect(text.hasPrefix("no route: "), "\(text)")
    }
}
