internal import Protocol

extension EngineBenchmark.Figure {
    /// A table of the stages of the mean of the faster half of the steps, in their order.
    public var profile: String {
        let total = Double(max(stages.total, 1))
        var text = Self.row("stage", "us a step", "part")
        for stage in TickStage.allCases where stages[stage] > 0 {
            let nanoseconds = Double(stages[stage])
            text += Self.row(
                stage.name, Self.tenths(nanoseconds / 1000 / Double(stagesSteps)),
                Self.tenths(100 * nanoseconds / total) + " %")
        }
        return text + Self.row("total", Self.tenths(total / 1000 / Double(stagesSteps)), "100.0 %")
    }

    private static func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

    private static func row(_ name: String, _ time: String, _ part: String) -> String {
        func blanks(_ count: Int) -> String { String(repeating: " ", count: max(count, 1)) }
        return "  " + name + blanks(24 - name.count) + blanks(12 - time.count) + time
            + blanks(10 - part.count) + part + "\n"
    }
}
