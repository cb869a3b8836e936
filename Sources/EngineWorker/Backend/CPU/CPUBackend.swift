internal import CKernels

/// The model's stages on the CPU, by the kernels of one instruction set.
///
/// At level ``KernelLevel/reference`` it is the double against which every other backend is
/// tested. Activations are F32; BF16 and int8 weights stay where the checkpoint's mapping has
/// them, the rest is widened to F32 when loaded.
public final class CPUBackend: Backend {
    public enum KernelLevel: Int32, CaseIterable, Sendable {
        case reference = 0
        case portable = 1
        case avx2 = 2
        case avx512 = 3

        /// The best one that this CPU runs.
        public static var best: KernelLevel {
            KernelLevel(rawValue: ck_kernels_best()) ?? .portable
        }
        public var isAvailable: Bool { ck_kernels_select(rawValue) != nil }
    }

    public static let threadCountMax = Int(CK_THREADS_MAX)

    public let kernels: KernelLevel
    public let failure: BackendError? = nil

    let engine: OpaquePointer
    var linears: [ck_linear] = []
    var vectors: [UnsafeMutablePointer<Float>] = []
    var expertTables: [UnsafeMutablePointer<ck_mlp>] = []
    /// What the pointers above point into.
    private var ownedBuffers: [HostBuffer] = []
    private var ownedTensors: [TensorView] = []
    var step: CPUStep?

    /// - Parameter threads: threads that compute, the caller's included.
    public init(kernels: KernelLevel, threads: Int) throws(BackendError) {
        precondition((1...Self.threadCountMax).contains(threads), "\(threads) threads")
        guard kernels.isAvailable else {
            throw .unsupported("this CPU does not run the \(kernels) kernels")
        }
        guard let engine = ck_engine_create(kernels.rawValue, threads) else {
            throw .device("\(threads) threads cannot be started; raise the limit on tasks")
        }
        self.kernels = kernels
        self.engine = engine
    }

    deinit {
        ck_engine_destroy(engine)
        for table in expertTables { table.deallocate() }
    }

    public func prepare(_ config: ModelConfig, limits: BackendLimits) throws(BackendError) {
        precondition(step == nil, "prepared twice")
        step = try CPUStep(config: config, limits: limits)
    }

    public func makeMatrix(rows: Int, columns: Int) throws(BackendError) -> DeviceMatrix {
        let buffer = try own(byteCount: rows * columns * 4, purpose: "activations")
        return DeviceMatrix(address: buffer.address, rowCapacity: rows, columns: columns)
    }

    public func loadVector(_ values: [Float]) throws(BackendError) -> VectorHandle {
        vectors.append(try copy(values))
        return VectorHandle(index: vectors.count - 1, count: values.count)
    }

    public func loadExperts(_ experts: [MLPWeights]) throws(BackendError) -> ExpertsHandle {
        let table = UnsafeMutablePointer<ck_mlp>.allocate(capacity: max(experts.count, 1))
        for (index, expert) in experts.enumerated() {
            (table + index).initialize(to: mlp(expert))
        }
        expertTables.append(table)
        return ExpertsHandle(index: expertTables.count - 1, count: experts.count)
    }

    public func loadLinear(_ source: LinearSource) throws(BackendError) -> LinearHandle {
        let linear: ck_linear
        switch source {
        case .dense(let tensor):
            linear = try dense(tensor)
        case .fp8Blocks(let weight, let scales, let block):
            linear = try widen(weight, scales: scales, block: block)
        case .staticInt8(let weight, let inputScale, let inputOffset, let sumBias, let sumScale):
            precondition(sumBias.count == weight.shape[0], "\(sumBias.count) \(weight.shape)")
            precondition(sumScale.count == weight.shape[0], "\(sumScale.count) \(weight.shape)")
            linear = ck_linear(
                kind: Int32(CK_INT8_STATIC), input_scale: inputScale,
                input_offset: inputOffset, outputs: weight.shape[0], inputs: weight.shape[1],
                weight: mapped(weight), scale: try copy(sumScale), bias: try copy(sumBias))
        case .dynamicInt8(let weight, let scale):
            precondition(scale.count == weight.shape[0], "\(scale.count) \(weight.shape)")
            linear = ck_linear(
                kind: Int32(CK_INT8_DYNAMIC), input_scale: 0, input_offset: 0,
                outputs: weight.shape[0], inputs: weight.shape[1], weight: mapped(weight),
                scale: try copy(scale), bias: nil)
        }
        linears.append(linear)
        return LinearHandle(
            index: linears.count - 1, outputs: linear.outputs, inputs: linear.inputs)
    }

    func mlp(_ weights: MLPWeights) -> ck_mlp {
        ck_mlp(
            gate: linears[weights.gate.index], up: linears[weights.up.index],
            down: linears[weights.down.index])
    }

    private func dense(_ tensor: TensorView) throws(BackendError) -> ck_linear {
        precondition(tensor.shape.count == 2, tensor.summary)
        let bytes = tensor.bytes
        let aligned = UInt(bitPattern: bytes.baseAddress) % UInt(tensor.type.size) == 0
        let weight: UnsafeRawPointer
        switch tensor.type {
        case .bf16, .f32:
            weight = aligned ? mapped(tensor) : UnsafeRawPointer(try copyBytes(bytes).address)
        case .f16:
            let halves = try copyBytes(bytes)
            let wide = try own(byteCount: tensor.count * 4, purpose: "weights")
            ck_widen_f16(
                wide.pointer(to: Float.self), halves.pointer(to: UInt16.self), tensor.count)
            ownedBuffers.removeAll { $0 === halves }
            weight = UnsafeRawPointer(wide.address)
        default:
            throw .unsupported("\(tensor.name) is \(tensor.summary), which is no dense weight")
        }
        let kind = tensor.type == .bf16 ? CK_BF16 : CK_F32
        return ck_linear(
            kind: Int32(kind), input_scale: 0, input_offset: 0, outputs: tensor.shape[0],
            inputs: tensor.shape[1], weight: weight, scale: nil, bias: nil)
    }

    private func widen(
        _ weight: TensorView, scales: TensorView, block: Int
    ) throws(BackendError) -> ck_linear {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        let blocks = ((outputs + block - 1) / block) * ((inputs + block - 1) / block)
        precondition(scales.count == blocks && scales.type == .f32, scales.summary)
        let wide = try own(byteCount: outputs * inputs * 4, purpose: "weights")
        let table = (0..<blocks).map {
            scales.bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
        }
        let codes = weight.bytes.bindMemory(to: UInt8.self)
        if let start = codes.baseAddress {
            ck_dequantize_blocks(
                wide.pointer(to: Float.self), start, table, outputs, inputs, block)
        }
        return ck_linear(
            kind: Int32(CK_F32), input_scale: 0, input_offset: 0, outputs: outputs,
            inputs: inputs, weight: UnsafeRawPointer(wide.address), scale: nil, bias: nil)
    }

    /// The tensor's bytes where they are; the mapping lives as long as the backend.
    private func mapped(_ tensor: TensorView) -> UnsafeRawPointer {
        ownedTensors.append(tensor)
        guard let start = tensor.bytes.baseAddress else {
            preconditionFailure("\(tensor.name) \(tensor.shape) has no bytes")
        }
        _ = ck_touch(start, tensor.bytes.count)
        return start
    }

    private func own(byteCount: Int, purpose: String) throws(BackendError) -> HostBuffer {
        let buffer = try HostBuffer(byteCount: byteCount, purpose: purpose)
        ownedBuffers.append(buffer)
        return buffer
    }

    private func copyBytes(_ bytes: UnsafeRawBufferPointer) throws(BackendError) -> HostBuffer {
        let buffer = try own(byteCount: bytes.count, purpose: "weights")
        if let start = bytes.baseAddress {
            buffer.address.copyMemory(from: start, byteCount: bytes.count)
        }
        return buffer
    }

    private func copy<Element: BitwiseCopyable>(
        _ values: [Element]
    ) throws(BackendError) -> UnsafeMutablePointer<Element> {
        let byteCount = values.count * MemoryLayout<Element>.stride
        let buffer = try own(byteCount: byteCount, purpose: "weights")
        values.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress {
                buffer.address.copyMemory(from: start, byteCount: bytes.count)
            }
        }
        return buffer.pointer(to: Element.self)
    }
}
