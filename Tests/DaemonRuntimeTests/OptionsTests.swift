import Foundation
import Protocol
import Testing

@testable import DaemonRuntime

@Suite struct OptionsTests {
    static func options(
        _ arguments: [String], _ daemon: DaemonKind = .gateway
    ) -> Result<Options, OptionError> {
        do throws(OptionError) {
            return .success(try Options(daemon: daemon, arguments: arguments))
        } catch {
            return .failure(error)
        }
    }

    static func refusal(_ arguments: [String], _ daemon: DaemonKind = .gateway) -> String {
        switch options(arguments, daemon) {
        case .success: "accepted"
        case .failure(let error): error.description
        }
    }

    // MARK: Forms

    static let forms: [[String]] = [
        ["--port", "81"], ["--port=81"], ["--port", "80", "--port", "81"],
        ["m", "--port", "81"],
    ]

    @Test(arguments: forms)
    func aFlagHasTwoForms(arguments: [String]) throws {
        #expect(try Self.options(arguments).get().integer("port") == 81)
    }

    @Test func underscoresAreHyphens() throws {
        let options = try Self.options([
            "--max_num_seqs", "4", "--enable_expert_parallel", "--no-enable_chunked_prefill",
        ]).get()
        #expect(options.integer("max-num-seqs") == 4)
        #expect(options.flag("enable-expert-parallel"))
        #expect(!options.flag("enable-chunked-prefill"))
    }

    @Test func theFirstArgumentIsTheModel() throws {
        #expect(try Self.options(["/m/a_b=c"]).get().text("model") == "/m/a_b=c")
        #expect(try Self.options(["/m", "--model", "/n"]).get().text("model") == "/n")
        #expect(try Self.options([]).get().text("model") == nil)
    }

    @Test func listsGrowAndOthersAreReplaced() throws {
        let options = try Self.options(["--api-key", "a", "--api-key=b", "--host", "x"]).get()
        #expect(options.list("api-key") == ["a", "b"])
        #expect(options.text("host") == "x")
        #expect(options.list("served-model-name").isEmpty)
    }

    @Test func aValueMayBeEmptyOrHoldEquals() throws {
        #expect(try Self.options(["--host="]).get().text("host") == "")
        #expect(try Self.options(["--host=a=b"]).get().text("host") == "a=b")
    }

    // MARK: Refusals

    static let refusals: [(arguments: [String], parts: [String])] = [
        (["--prot", "80"], ["--prot", "unknown option", "did you mean \"port\""]),
        (["--max-num-seq", "8"], ["did you mean \"max-num-seqs\""]),
        (["--qqqqqqqqqq", "8"], ["unknown option \"qqqqqqqqqq\""]),
        (["--port"], ["--port", "needs a value"]),
        (["--port", "--host", "x"], ["--port", "needs a value"]),
        (["--port", "eighty"], ["--port", "\"eighty\" is not a whole number"]),
        (["--port", "1.5"], ["not a whole number"]),
        (["--port", "99999"], ["99999 is not in 0...65535"]),
        (["--port", "99999999999999999999"], ["not a whole number"]),
        (["--gpu-memory-utilization", "much"], ["not a number"]),
        (["--gpu-memory-utilization", "nan"], ["is not in"]),
        (["--log-level", "loud"], ["none of error, warning, notice, info, debug"]),
        (["--dtype", "float16"], ["dtype", "computes in bfloat16 or float32"]),
        (["--additional-config", "{"], ["--additional-config", "is not JSON"]),
        (["--additional-config", "[]"], ["is not a JSON object"]),
        (
            ["--additional-config", #"{"torchair_graph_config":{"enable":true}}"#],
            ["torchair_graph_config.enable", "did you mean \"enabled\"?"]
        ),
        (
            ["--additional-config", #"{"torchair_graph_config":1}"#],
            ["torchair_graph_config is not an object"]
        ),
        (
            ["--data-parallel-multi-port-external-lb"],
            ["is refused", "start a gateway a rank"]
        ),
        (["--swap-space", "4"], ["vLLM without effect", "leave it out"]),
        (
            ["--protocol-min", "2", "--protocol-max", "1"],
            ["--protocol-min 2 is above --protocol-max 1", "no version is left"]
        ),
        (["--headless"], ["no option of phalanx-gateway", "phalanxctl serve"]),
        (
            ["--additional-config", #"{"torchair_graph_confg":{}}"#],
            ["unknown key \"torchair_graph_confg\"", "ascend_scheduler_config"]
        ),
        (
            ["--additional-config", #"{"ascend_scheduler_config":true}"#],
            ["ascend_scheduler_config is not an object"]
        ),
        (
            ["--additional-config", #"{"ascend_scheduler_config":{"enable":true}}"#],
            ["unknown key \"ascend_scheduler_config.enable\"", "enabled"]
        ),
        (
            ["--additional-config", #"{"ascend_scheduler_config":{"enabled":1}}"#],
            ["ascend_scheduler_config.enabled is not true or false"]
        ),
        (["--enable-expert-parallel=maybe"], ["is not true or false"]),
        (["--no-port"], ["unknown option"]),
        (["--lease", "500"], ["no option of phalanx-gateway"]),
        (["m", "n"], ["\"n\"", "expected an option"]),
        (["-p", "1"], ["\"-p\"", "expected an option"]),
        (["--"], ["unknown option"]),
        (["--config", "/nowhere/at all.yaml"], ["/nowhere/at all.yaml", "cannot be read"]),
        (["--config", "/"], ["cannot be read"]),
    ]

    @Test func theAscendSchedulerIsWhatItSays() throws {
        func isOn(_ config: String) throws -> Bool {
            let text = config == "{}" ? config : #"{"ascend_scheduler_config":\#(config)}"#
            let options = try Self.options(["--additional-config", text]).get()
            return try AdditionalConfiguration(options.requiredText("additional-config"))
                .prefillFirst
        }
        #expect(try isOn(#"{"enabled":true}"#))
        #expect(try isOn(#"{"enabled":true,"enable_chunked_prefill":false}"#))
        #expect(try !isOn(#"{"enabled":true,"enable_chunked_prefill":true}"#))
        #expect(try !isOn(#"{"enabled":false}"#) && !isOn("{}"))
    }

    @Test(arguments: refusals)
    func aRefusalSaysWhatAndWhere(arguments: [String], parts: [String]) {
        let text = Self.refusal(arguments)
        for part in parts { #expect(text.contains(part), "\(text)") }
    }

    // MARK: Deployment

    @Test func declaredIsWhatWasGivenAndEffectiveIsAll() throws {
        let options = try Self.options(["m", "--seed", "5", "--port", "81"]).get()
        #expect(
            options.declared == [
                ConfigurationEntry(key: "model", value: "m"),
                ConfigurationEntry(key: "seed", value: "5"),
            ])
        let effective = options.effective
        #expect(effective.contains(ConfigurationEntry(key: "block-size", value: "16")))
        #expect(!effective.contains { $0.key == "port" || $0.key == "max-model-len" })
        #expect(
            effective.map(\.key)
                == OptionTable.deployment.map(\.name).filter { name in
                    effective.contains { $0.key == name }
                })
    }

    @Test func adoptingTakesTheCoordinatorsDeploymentAndKeepsTheNode() throws {
        let node = try Self.options(["mine", "--seed", "5", "--port", "81"]).get()
        let adopted = try node.adopting([ConfigurationEntry(key: "model", value: "theirs")])
        #expect(adopted.text("model") == "theirs")
        #expect(adopted.text("seed") == nil, "the coordinator has none")
        #expect(adopted.integer("port") == 81)
    }

    @Test(arguments: [("speed", "1"), ("seed", "fast"), ("port", "82")])
    func adoptingRefusesWhatIsNoDeploymentOption(key: String, value: String) throws {
        let node = try Self.options([]).get()
        #expect(throws: OptionError.self) {
            try node.adopting([ConfigurationEntry(key: key, value: value)])
        }
    }

    @Test func everyDefaultIsAValueOfItsOption() {
        for specification in OptionTable.all {
            guard let value = specification.defaultValue else { continue }
            #expect(specification.problem(with: value) == nil, "\(specification.name)")
        }
        #expect(Set(OptionTable.all.map(\.name)).count == OptionTable.all.count)
    }

    @Test(arguments: DaemonKind.allCases)
    func helpNamesEveryOptionOfTheDaemon(daemon: DaemonKind) {
        let help = Options.help(for: daemon)
        for specification in OptionTable.all {
            let named = help.contains("  --\(specification.name)\n")
            #expect(named == specification.belongs(to: daemon), "\(specification.name)")
        }
    }

    @Test func editDistanceCountsChanges() {
        let table = [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("port", "prot", 2)]
        for (left, right, distance) in table {
            #expect(OptionTable.editDistance(Array(left.utf8), Array(right.utf8)) == distance)
        }
    }
}
