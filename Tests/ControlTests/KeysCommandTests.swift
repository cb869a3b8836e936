import Foundation
import Testing

@testable import Control
@testable import DaemonRuntime

@Suite final class KeysCommandTests {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "phalanx-keys-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    ).path
    var written = ""
    var complaints = ""

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func run(_ arguments: String...) -> ControlExit {
        ControlProgram.run(
            ["keys"] + arguments,
            ControlOutput(
                isTerminal: false, write: { [unowned self] in written += $0 },
                complain: { [unowned self] in complaints += $0 }))
    }

    @Test func everyRoleGetsAPairThatItsPeersAccept() throws {
        #expect(run(folder) == .success)
        for role in KeyRole.allCases {
            let ring = try KeyRing(folder: folder, role: role, peers: KeyRole.allCases)
            #expect(ring.keys(of: role).first == ring.own.publicKey)
        }
        let mode = try FileManager.default.attributesOfItem(atPath: folder)[.posixPermissions]
        #expect(mode as? Int == 0o700)
    }

    @Test func keysThatAreThereAreNotTouched() throws {
        #expect(run(folder) == .success)
        let before = try KeyRing(folder: folder, role: .worker, peers: [])
        #expect(run(folder) == .finding)
        #expect(complaints.contains("is there already"))
        #expect(try KeyRing(folder: folder, role: .worker, peers: []) == before)
    }

    @Test func aNewKeyComesFirstAndTheOldOneStays() throws {
        #expect(run(folder) == .success)
        let old = try KeyRing(folder: folder, role: .worker, peers: []).own
        #expect(run(folder, "--rotate", "worker") == .success)
        let ring = try KeyRing(folder: folder, role: .worker, peers: [.worker])
        #expect(ring.own != old)
        #expect(ring.keys(of: .worker) == [ring.own.publicKey, old.publicKey])
        #expect(run(folder, "--rotate=gateway") == .success)
    }

    @Test(arguments: [
        ([], "which folder?"), (["a", "b"], "not also \"b\""), (["a", "--force"], "\"--force\""),
        (["a", "--rotate"], "is no role"), (["a", "--rotate", "king"], "king: is no role"),
    ])
    func whatIsNotUnderstoodIsRefused(arguments: [String], problem: String) {
        let output = ControlOutput(
            isTerminal: false, write: { _ in },
            complain: { #expect($0.contains(problem), "\($0)") })
        #expect(ControlProgram.run(["keys"] + arguments, output) == .usage)
    }

    @Test func aFolderThatCannotBeMadeIsNamed() {
        #expect(run("/proc/none/keys") == .finding)
        #expect(complaints.contains("/proc/none/keys"))
    }
}
