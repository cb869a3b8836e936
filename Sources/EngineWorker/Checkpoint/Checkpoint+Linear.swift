internal import CKernels

/// Reading tensors as the sources of linear layers, with the liberties that checkpoints take.
extension Checkpoint {
    /// Bytes of the tensors whose names `belongs` accepts.
    func byteCount(where belongs: (String) -> Bool) -> Int {
        var total = 0
        forEachTensor { if belongs($0.name) { total += $0.bytes.count } }
        return total
    }

    /// A tensor of `count` numbers in any float type and shape, as F32.
    func floats(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
        let found = try tensor(name)
        guard found.count == count, let values = found.widened() else {
            throw .wrongTensor(
                path: found.file.path, tensor: name, expected: "\(count) floats",
                found: found.summary)
        }
        return values
    }

    func floatLinear(_ module: String, shape: [Int]) throws(CheckpointError) -> LinearSource {
        let name = module + ".weight"
        let found = try tensor(
            name, shape: shape, types: [.bf16, .f32, .f16, .f8e4m3])
        guard found.type == .f8e4m3 else { return .dense(found) }
        guard let block = config.fp8Block else {
            throw .wrongKey(
                path: folder + "/config.json", key: "quantization_config",
                reason: "is missing, but \(name) is FP8")
        }
        let blocks = shape.map { ($0 + block - 1) / block }
        let scales = try tensor(name + "_scale_inv", shape: blocks, types: [.f32])
        return .fp8Blocks(weight: found, scales: scales, block: block, firstOutput: 0)
    }

    /// msmodelslim's `W8A8`. Models that are not BF16 keep the F32 scales' bits in an I64.
    /// `weight_scale` and `weight_offset` may be there and are not needed.
    func staticLinear(_ module: String, shape: [Int]) throws(CheckpointError) -> LinearSource {
        let weight = try tensor(module + ".weight", shape: shape, types: [.i8])
        let bias = try tensor(module + ".quant_bias")
        let scale = try tensor(module + ".deq_scale")
        guard bias.type == .i32, bias.count == shape[0] else {
            throw .wrongTensor(
                path: bias.file.path, tensor: bias.name, expected: "I32 [\(shape[0])]",
                found: bias.summary)
        }
        let sumScale: [Float]
        if scale.type == .i64, scale.count == shape[0] {
            sumScale = scale.elements(as: Int64.self).map {
                Float(bitPattern: UInt32(truncatingIfNeeded: $0))
            }
        } else {
            sumScale = try floats(scale.name, count: shape[0])
        }
        return .staticInt8(
            weight: weight,
            inputScale: try floats(module + ".input_scale", count: 1)[0],
            inputOffset: try floats(module + ".input_offset", count: 1)[0],
            sumBias: bias.elements(as: Int32.self),
            sumScale: sumScale)
    }

    /// msmodelslim's `W8A8_DYNAMIC`: symmetric, so offsets other than 0 are refused.
    func dynamicLinear(_ module: String, shape: [Int]) throws(CheckpointError) -> LinearSource {
        let weight = try tensor(module + ".weight", shape: shape, types: [.i8])
        if let offset = optionalTensor(module + ".weight_offset") {
            let values = try floats(offset.name, count: shape[0])
            guard values.allSatisfy({ $0 == 0 }) else {
                throw .unsupported(
                    path: offset.file.path, feature: "an asymmetric \(module)",
                    remedy: "use a checkpoint with symmetric W8A8_DYNAMIC weights")
            }
        }
        return .dynamicInt8(
            weight: weight, scale: try floats(module + ".weight_scale", count: shape[0]))
    }
}

extension LinearSource {
    /// The part of a linear layer that computes some of its outputs.
    func outputs(_ range: Range<Int>) -> LinearSource {
        switch self {
        case .dense(let tensor):
            return .dense(tensor.rows(range))
        case .fp8Blocks(let weight, let scales, let block, let firstOutput):
            let (first, last) = (firstOutput + range.lowerBound, firstOutput + range.upperBound)
            let blocks = (first / block)..<((last + block - 1) / block)
            return .fp8Blocks(
                weight: weight.rows(range), scales: scales.rows(blocks), block: block,
                firstOutput: first % block)
        case .staticInt8(let weight, let inputScale, let inputOffset, let sumBias, let sumScale):
            return .staticInt8(
                weight: weight.rows(range), inputScale: inputScale, inputOffset: inputOffset,
                sumBias: Array(sumBias[range]), sumScale: Array(sumScale[range]))
        case .dynamicInt8(let weight, let scale):
            return .dynamicInt8(weight: weight.rows(range), scale: Array(scale[range]))
        }
    }
}

extension TensorView {
    /// The elements as they are stored; `Element` must have the type's size.
    func elements<Element: BitwiseCopyable>(as type: Element.Type) -> [Element] {
        precondition(MemoryLayout<Element>.size == self.type.size, "\(type) in \(summary)")
        let bytes = self.bytes
        return [Element](unsafeUninitializedCapacity: count) { elements, filled in
            if let start = bytes.baseAddress {
                UnsafeMutableRawBufferPointer(elements).baseAddress?
                    .copyMemory(from: start, byteCount: bytes.count)
            }
            filled = count
        }
    }

    /// The elements as F32, or nil when they are no F32, BF16 or F16.
    func widened() -> [Float]? {
        switch type {
        case .f32:
            return elements(as: Float.self)
        case .bf16:
            return elements(as: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
        case .f16:
            let halves = elements(as: UInt16.self)
            var wide = [Float](repeating: 0, count: halves.count)
            ck_widen_f16(&wide, halves, halves.count)
            return wide
        default:
            return nil
        }
    }
}
