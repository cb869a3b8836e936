internal import CKernels

/// Loading: from a checkpoint's tensors to packed weights.
extension CPUBackend {
    static let panel = Int(CK_PANEL)

    public func beginWeights(_ part: WeightPart) {
        let types = elementType == .float32 ? "float32" : "bfloat16"
        packed.begin(
            part,
            setting: "dtype=\(types) w8a8=\(quantizesWeights) kernels=\(kernels.rawValue)")
    }

    public func endWeights() throws(BackendError) { try packed.end() }

    public func loadVector(_ values: [Float]) throws(BackendError) -> VectorHandle {
        vectors.append(try packed.keep(vector: values))
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

    func mlp(_ weights: MLPWeights) -> ck_mlp {
        ck_mlp(
            gate: linears[weights.gate.index], up: linears[weights.up.index],
            down: linears[weights.down.index])
    }

    public func loadLinear(
        _ source: LinearSource, role: LinearRole
    ) throws(BackendError) -> LinearHandle {
        let linear: ck_linear
        switch source {
        case .dense, .fp8Blocks:
            let floats = try FloatWeights(source, isNeeded: !packed.isFilled)
            linear = try pack(
                floats.weights, outputs: floats.outputs, inputs: floats.inputs,
                as: quantizesWeights && role != .router ? .int8 : floatForm(floats, role: role))
            floats.release()
        case .staticInt8(let weight, let inputScale, let inputOffset, let sumBias, let sumScale):
            precondition(sumBias.count == weight.shape[0], "\(sumBias.count) \(weight.shape)")
            var packed = try packInt8(weight, kind: CK_INT8_STATIC, scale: sumScale)
            packed.input_scale = inputScale
            packed.input_offset = inputOffset
            packed.bias = UnsafePointer(
                try self.packed.take(sumBias, paddedTo: Self.padded(weight.shape[0])))
            linear = packed
        case .dynamicInt8(let weight, let scale):
            linear = try packInt8(weight, kind: CK_INT8_DYNAMIC, scale: scale)
        }
        linears.append(linear)
        return LinearHandle(
            index: linears.count - 1, outputs: linear.outputs, inputs: linear.inputs)
    }

    public func loadEmbedding(_ table: TensorView) throws(BackendError) -> EmbeddingHandle {
        precondition(table.shape.count == 2, table.summary)
        let bytes = table.bytes
        guard let start = bytes.baseAddress else {
            preconditionFailure("\(table.name) \(table.shape) has no bytes")
        }
        let isAligned = UInt(bitPattern: start) % UInt(table.type.size) == 0
        let kind = Int32(table.type == .bf16 ? CK_BF16 : CK_F32)
        if isAligned, table.type != .f16 {
            // Read a row at a time where the file is mapped.
            packed.keep(table)
            embeddings.append(Embedding(rows: start, kind: kind))
        } else {
            let size = table.type == .bf16 ? 2 : 4
            let copy = try packed.own(byteCount: table.count * size, purpose: "weights")
            if table.type == .f16 {
                let wide = try FloatWeights(.dense(table))
                copy.address.copyMemory(from: wide.start, byteCount: table.count * size)
            } else {
                copy.address.copyMemory(from: start, byteCount: bytes.count)
            }
            embeddings.append(Embedding(rows: UnsafeRawPointer(copy.address), kind: kind))
        }
        return EmbeddingHandle(index: embeddings.count - 1, columns: table.shape[1])
    }

    public func loadKeyValue(_ source: LinearSource) throws(BackendError) -> KeyValueHandle {
        guard let config = step?.config else {
            preconditionFailure("prepare(_:limits:) was not called")
        }
        let floats = try FloatWeights(source, isNeeded: !packed.isFilled)
        let (nope, value, latent) = (config.nopeHeadSize, config.valueHeadSize, config.latentRank)
        let form = floatForm(floats, role: .projection)
        let table = UnsafeMutablePointer<ck_linear>.allocate(capacity: 2 * config.headCount)
        keyValues.append(table)
        for head in 0..<config.headCount {
            let first = head * (nope + value) * latent
            // Transposed: from a query's elements to latent columns.
            let keys = floats.weights(from: first, outputStride: 1, inputStride: latent)
            (table + head).initialize(
                to: try pack(keys, outputs: latent, inputs: nope, as: form))
            let values = floats.weights(
                from: first + nope * latent, outputStride: latent, inputStride: 1)
            (table + config.headCount + head).initialize(
                to: try pack(values, outputs: value, inputs: latent, as: form))
        }
        floats.release()
        return KeyValueHandle(index: keyValues.count - 1)
    }

    // MARK: Packing

    private enum Form {
        case float32
        /// BF16 weights; `wide`: with F32 activations.
        case bfloat16(wide: Bool)
        case int8
    }

    private func floatForm(_ floats: FloatWeights, role: LinearRole) -> Form {
        let isPrecise = elementType == .float32 || role == .router
        if floats.weights.kind == CK_BF16 { return .bfloat16(wide: isPrecise) }
        return isPrecise ? .float32 : .bfloat16(wide: false)
    }

    private static func padded(_ outputs: Int) -> Int { (outputs + panel - 1) / panel * panel }

    private func pack(
        _ weights: ck_weights, outputs: Int, inputs: Int, as form: Form
    ) throws(BackendError) -> ck_linear {
        var (kind, isWide) = (Int32(CK_F32), false)
        var scales: UnsafeMutablePointer<Float>?
        switch form {
        case .float32: break
        case .bfloat16(let wide): (kind, isWide) = (Int32(CK_BF16), wide)
        case .int8:
            kind = Int32(CK_INT8_DYNAMIC)
            scales = try packed.take([], paddedTo: Self.padded(outputs))
        }
        let memory = try packed.take(byteCount: ck_packed_bytes(kind, outputs, inputs))
        if !packed.isFilled {
            withUnsafePointer(to: weights) {
                ck_pack(engine, memory, scales, kind, outputs, inputs, $0)
            }
        }
        return ck_linear(
            kind: kind, wide: isWide ? 1 : 0, input_scale: 0, input_offset: 0, outputs: outputs,
            inputs: inputs, weight: memory, scale: scales.map { UnsafePointer($0) }, bias: nil)
    }

    private func packInt8(
        _ weight: TensorView, kind: Int, scale: [Float]
    ) throws(BackendError) -> ck_linear {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        precondition(scale.count == outputs, "\(scale.count) \(weight.shape)")
        guard let start = weight.bytes.baseAddress else {
            preconditionFailure("\(weight.name) \(weight.shape) has no bytes")
        }
        let memory = try packed.take(byteCount: ck_packed_bytes(Int32(kind), outputs, inputs))
        if !packed.isFilled {
            var source = ck_weights(
                kind: Int32(CK_INT8_DYNAMIC), data: start, output_stride: inputs,
                input_stride: 1)
            ck_pack(engine, memory, nil, Int32(kind), outputs, inputs, &source)
            ck_release_pages(start, weight.bytes.count)
        }
        let scales = try packed.take(scale, paddedTo: Self.padded(outputs))
        return ck_linear(
            kind: Int32(kind), wide: 0, input_scale: 0, input_offset: 0, outputs: outputs,
            inputs: inputs, weight: memory, scale: UnsafePointer(scales), bias: nil)
    }
}

/// Float weights that the packing can read: BF16 or F32 where they are mapped, others widened to
/// F32 in memory of their own.
struct FloatWeights {
    let outputs: Int
    let inputs: Int
    let weights: ck_weights
    private let tensor: TensorView
    private let wide: HostBuffer?

    var start: UnsafeRawPointer { weights.data }

    /// - Parameters:
    ///   - source: `.dense` or `.fp8Blocks`.
    ///   - isNeeded: whether elements will be read; else only kind and shape are right.
    init(_ source: LinearSource, isNeeded: Bool = true) throws(BackendError) {
        let kind: Int
        switch source {
        case .dense(let tensor):
            self.tensor = tensor
            switch tensor.type {
            case .bf16, .f32:
                kind = tensor.type == .bf16 ? CK_BF16 : CK_F32
                wide = nil
            case .f16:
                kind = CK_F32
                wide = isNeeded ? try Self.widened(half: tensor) : nil
            default:
                throw .unsupported("\(tensor.name) is \(tensor.summary), which is no dense weight")
            }
        case .fp8Blocks(let weight, let scales, let block, let firstOutput):
            tensor = weight
            kind = CK_F32
            wide =
                isNeeded
                ? try Self.widened(
                    weight, scales: scales, block: block, firstOutput: firstOutput) : nil
        case .staticInt8(let weight, _, _, _, _), .dynamicInt8(let weight, _):
            throw .unsupported("\(weight.name) is int8 where floats are needed")
        }
        (outputs, inputs) = (tensor.shape[0], tensor.shape[1])
        guard let data = wide.map({ UnsafeRawPointer($0.address) }) ?? tensor.bytes.baseAddress
        else { preconditionFailure("\(tensor.name) \(tensor.shape) has no bytes") }
        weights = ck_weights(
            kind: Int32(kind), data: data, output_stride: inputs, input_stride: 1)
    }

    /// Another view of the same elements.
    func weights(from first: Int, outputStride: Int, inputStride: Int) -> ck_weights {
        let size = weights.kind == CK_BF16 ? 2 : 4
        return ck_weights(
            kind: weights.kind, data: weights.data + first * size, output_stride: outputStride,
            input_stride: inputStride)
    }

    /// The checkpoint's pages are not needed any more; the file still has them.
    func release() {
        if let start = tensor.bytes.baseAddress { ck_release_pages(start, tensor.bytes.count) }
    }

    private static func widened(half tensor: TensorView) throws(BackendError) -> HostBuffer {
        let wide = try HostBuffer(byteCount: tensor.count * 4, purpose: "weights")
        let halves = tensor.elements(as: UInt16.self)
        ck_widen_f16(wide.pointer(to: Float.self), halves, halves.count)
        return wide
    }

    /// Block row by block row: the first one may be cut.
    private static func widened(
        _ weight: TensorView, scales: TensorView, block: Int, firstOutput: Int
    ) throws(BackendError) -> HostBuffer {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        let columnBlocks = (inputs + block - 1) / block
        let rowBlocks = (firstOutput + outputs + block - 1) / block
        precondition(
            scales.count == rowBlocks * columnBlocks && scales.type == .f32, scales.summary)
        let wide = try HostBuffer(byteCount: outputs * inputs * 4, purpose: "weights")
        guard let codes = weight.bytes.bindMemory(to: UInt8.self).baseAddress else { return wide }
        let factors = scales.elements(as: Float.self)
        factors.withUnsafeBufferPointer { factors in
            guard let factors = factors.baseAddress else { return }
            for rowBlock in 0..<rowBlocks {
                let first = max(rowBlock * block - firstOutput, 0)
                let last = min((rowBlock + 1) * block - firstOutput, outputs)
                ck_dequantize_blocks(
                    wide.pointer(to: Float.self) + first * inputs, codes + first * inputs,
                    factors + rowBlock * columnBlocks, last - first, inputs, block)
            }
        }
        return wide
    }
}
