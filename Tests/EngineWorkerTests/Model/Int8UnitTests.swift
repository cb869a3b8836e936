import Testing

@testable import EngineWorker

/// Linear layers with int8 weights, bit for bit: torch and numpy agree on these outputs exactly,
/// and so must every instruction set.
@Suite struct Int8UnitTests {
    @Test(arguments: ["tiny-w8a8", "demo-w8a8"], CPUBackend.KernelLevel.allCases)
    func outputsAreBitExact(name: String, kernels: CPUBackend.KernelLevel) throws {
        guard kernels.isAvailable else { return }
        let units = try Fixtures.golden(name, "int8_units")
        let checkpoint = try Checkpoint(folder: Fixtures.model(name))
        let quantization = try QuantizationMap(folder: checkpoint.folder)
        let backend = try CPUBackend(kernels: kernels, threads: 2)
        let modules = units.tensors.keys.filter { $0.hasSuffix(".x") }.map { $0.dropLast(2) }
        #expect(modules.count == 13)
        for module in modules.sorted().map(String.init) {
            let weight = try checkpoint.tensor(module + ".weight")
            let isStatic = try quantization.kind(of: module) == .staticInt8
            let source =
                isStatic
                ? try checkpoint.staticLinear(module, shape: weight.shape)
                : try checkpoint.dynamicLinear(module, shape: weight.shape)
            let handle = try backend.loadLinear(source, role: .projection)
            let x = try units.floats(module + ".x")
            let rows = x.count / handle.inputs
            let input = try backend.makeMatrix(rows: rows, columns: handle.inputs)
            let output = try backend.makeMatrix(rows: rows, columns: handle.outputs)
            input.address.copyMemory(from: x, byteCount: x.count * 4)
            backend.linear(input, handle, rows: rows, into: output)
            let found = UnsafeBufferPointer(
                start: backend.hostRows(of: output, rows: rows), count: rows * handle.outputs)
            let expected = try units.floats(module + ".y")
            let isEqual = found.map(\.bitPattern) == expected.map(\.bitPattern)
            #expect(isEqual, "\(module)")
        }
    }
}
