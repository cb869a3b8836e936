/// Rows and the experts that they go through, gathered in any order and computed sorted by expert.
/// Assignments to one expert keep their order. Kept from layer to layer for its memory.
struct ExpertAssignments {
    private struct Assignment {
        let expert: Int
        let input: UnsafePointer<Float>
        let output: UnsafeMutablePointer<Float>
    }
    private var assignments: [Assignment] = []
    private var starts: [Int] = []
    private var cursors: [Int] = []
    private var inputs: [UnsafePointer<Float>] = []
    private var outputs: [UnsafeMutablePointer<Float>] = []

    mutating func removeAll() { assignments.removeAll(keepingCapacity: true) }

    mutating func append(
        expert: Int, input: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>
    ) {
        assignments.append(Assignment(expert: expert, input: input, output: output))
    }

    /// Their outputs, in the order in which they were appended.
    func collectOutputs(into parts: inout [UnsafePointer<Float>]) {
        for assignment in assignments { parts.append(UnsafePointer(assignment.output)) }
    }

    /// Gives all of them to `body`, sorted; not called when there are none.
    mutating func withBatch(experts: Int, _ body: (ExpertBatch) -> Void) {
        guard let any = assignments.first else { return }
        starts.removeAll(keepingCapacity: true)
        starts.append(contentsOf: repeatElement(0, count: experts + 1))
        for assignment in assignments { starts[assignment.expert + 1] += 1 }
        for expert in 0..<experts { starts[expert + 1] += starts[expert] }
        cursors.removeAll(keepingCapacity: true)
        cursors.append(contentsOf: starts)
        inputs.removeAll(keepingCapacity: true)
        outputs.removeAll(keepingCapacity: true)
        inputs.append(contentsOf: repeatElement(any.input, count: assignments.count))
        outputs.append(contentsOf: repeatElement(any.output, count: assignments.count))
        for assignment in assignments {
            let place = cursors[assignment.expert]
            inputs[place] = assignment.input
            outputs[place] = assignment.output
            cursors[assignment.expert] += 1
        }
        starts.withUnsafeBufferPointer { starts in
            inputs.withUnsafeBufferPointer { inputs in
                outputs.withUnsafeBufferPointer { outputs in
                    guard let starts = starts.baseAddress, let inputs = inputs.baseAddress,
                        let outputs = outputs.baseAddress
                    else { return }
                    body(ExpertBatch(starts: starts, inputs: inputs, outputs: outputs))
                }
            }
        }
    }
}
