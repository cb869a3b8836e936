internal import CKernels

/// The operations of a step: pointer arithmetic here, loops in CKernels.
extension CPUBackend {
    private var current: CPUStep {
        guard let step else { preconditionFailure("prepare(_:limits:) was not called") }
        return step
    }

    private func floats(_ matrix: DeviceMatrix, rows: Int) -> UnsafeMutablePointer<Float> {
        precondition(rows <= matrix.rowCapacity, "\(rows) rows of \(matrix.rowCapacity)")
        return matrix.address.assumingMemoryBound(to: Float.self)
    }

    private func bias(_ norm: NormWeights) -> UnsafePointer<Float>? {
        norm.bias.map { UnsafePointer(vectors[$0.index]) }
    }

    private func multiply(
        _ handle: LinearHandle, rows: Int, _ input: UnsafePointer<Float>,
        into output: UnsafeMutablePointer<Float>
    ) {
        withUnsafePointer(to: linears[handle.index]) {
            ck_linear_apply(engine, $0, output, handle.outputs, input, handle.inputs, rows)
        }
    }

    private func normalize(
        _ norm: NormWeights, rows: Int, _ input: UnsafePointer<Float>,
        into output: UnsafeMutablePointer<Float>
    ) {
        let count = norm.weight.count
        ck_norm_apply(
            engine, output, count, input, count, vectors[norm.weight.index], bias(norm),
            norm.epsilon, rows, count)
    }

    public func beginStep(_ plan: StepPlan, rows: Int) {
        let step = current
        step.begin(plan, rows: rows)
        ck_rotary_tables(
            step.cosines.pointer(to: Float.self), step.sines.pointer(to: Float.self),
            step.positions, step.rotary.frequencies, step.rotary.magnitude, step.rows,
            step.rotary.frequencies.count)
    }

    public func embed(_ table: EmbeddingHandle, into output: DeviceMatrix) {
        precondition(output.columns == table.columns, "\(output.columns) \(table.columns)")
        let (rows, embedding) = (current.rows, embeddings[table.index])
        ck_embed(
            floats(output, rows: rows), current.tokenIDs, embedding.rows, embedding.kind, rows,
            table.columns)
    }

    public func rmsNorm(
        _ input: DeviceMatrix, _ norm: NormWeights, rows: Int, into output: DeviceMatrix
    ) {
        precondition(input.columns == norm.weight.count, "\(input.columns)")
        precondition(output.columns == norm.weight.count, "\(output.columns)")
        normalize(norm, rows: rows, floats(input, rows: rows), into: floats(output, rows: rows))
    }

    public func linear(
        _ input: DeviceMatrix, _ weight: LinearHandle, rows: Int, into output: DeviceMatrix
    ) {
        precondition(input.columns == weight.inputs, "\(input.columns) \(weight.inputs)")
        precondition(output.columns == weight.outputs, "\(output.columns) \(weight.outputs)")
        multiply(weight, rows: rows, floats(input, rows: rows), into: floats(output, rows: rows))
    }

    public func add(_ addend: DeviceMatrix, to sum: DeviceMatrix, rows: Int) {
        precondition(addend.columns == sum.columns, "\(addend.columns) \(sum.columns)")
        let count = rows * sum.columns
        ck_add(engine, floats(sum, rows: rows), floats(addend, rows: rows), count)
    }

    public func mlaProject(_ input: DeviceMatrix, _ weights: AttentionWeights, layer: Int) {
        let step = current
        let (rows, config) = (step.rows, step.config)
        let x = floats(input, rows: rows)
        let queries = step.queries.pointer(to: Float.self)
        if let queryDown = weights.queryDown, let queryNorm = weights.queryNorm {
            let latents = step.queryLatents.pointer(to: Float.self)
            multiply(queryDown, rows: rows, x, into: latents)
            normalize(queryNorm, rows: rows, latents, into: latents)
            multiply(weights.queryUp, rows: rows, latents, into: queries)
        } else {
            multiply(weights.queryUp, rows: rows, x, into: queries)
        }
        let cosines = step.cosines.pointer(to: Float.self)
        let sines = step.sines.pointer(to: Float.self)
        ck_rotate_queries(
            engine, queries, cosines, sines, rows, config.headCount,
            config.nopeHeadSize + config.ropeHeadSize, config.ropeHeadSize)
        let latents = step.latents.pointer(to: Float.self)
        multiply(weights.latentDown, rows: rows, x, into: latents)
        let norm = weights.latentNorm
        ck_store_latents(
            engine, step.cache(layer: layer), step.cacheType.kind, step.slots, latents,
            vectors[norm.weight.index], bias(norm), norm.epsilon, cosines, sines, rows,
            config.latentRank, config.ropeHeadSize)
    }

    public func mlaAttention(
        _ weights: AttentionWeights, layer: Int, into output: DeviceMatrix
    ) {
        let step = current
        let (rows, config) = (step.rows, step.config)
        guard rows > 0 else { return }
        precondition(output.columns == config.headCount * config.valueHeadSize, "\(output)")
        let attended = floats(output, rows: rows)
        let keys = keyValues[weights.keyValueUp.index]
        step.tables.withUnsafeBufferPointer { tables in
            step.tableStarts.withUnsafeBufferPointer { starts in
                step.positions.withUnsafeBufferPointer { positions in
                    guard let tables = tables.baseAddress, let starts = starts.baseAddress,
                        let positions = positions.baseAddress
                    else { preconditionFailure("\(rows) rows without positions") }
                    var attention = ck_latent_attention(
                        output: attended, queries: step.queries.pointer(to: Float.self),
                        cache: step.cache(layer: layer), cache_kind: step.cacheType.kind,
                        tables: tables, table_starts: starts, positions: positions,
                        keys: keys, values: keys + config.headCount, rows: rows,
                        heads: config.headCount, nope: config.nopeHeadSize,
                        rope: config.ropeHeadSize, value: config.valueHeadSize,
                        latent: config.latentRank, block_size: step.limits.blockSize,
                        scale: Float(step.rotary.scoreScale))
                    ck_latent_attention_apply(engine, &attention)
                }
            }
        }
    }

    public func route(
        _ input: DeviceMatrix, _ weights: RouterWeights, rows: Int, into choices: RouterChoices
    ) {
        let config = current.config
        var router = ck_router(
            experts: config.expertCount, groups: config.expertGroupCount,
            groups_kept: config.expertGroupsKept, chosen: config.expertsPerToken,
            scale: Float(config.routedScale), normalize: config.normalizesExpertWeights ? 1 : 0)
        withUnsafePointer(to: linears[weights.gate.index]) {
            ck_router_apply(
                engine, choices.experts, choices.weights, choices.logits,
                floats(input, rows: rows), $0, vectors[weights.bias.index], &router, rows)
        }
    }

    public func mlp(
        _ input: DeviceMatrix, _ weights: MLPWeights, rows: Int, into output: DeviceMatrix
    ) {
        var table = mlp(weights)
        ck_mlp_apply(
            engine, &table, floats(output, rows: rows), floats(input, rows: rows), rows)
    }

    public func expertMLP(_ experts: ExpertsHandle, _ batch: ExpertBatch) {
        ck_experts_apply(
            engine, expertTable(experts), batch.starts, experts.count, batch.inputs,
            batch.outputs)
    }

    public func expertGate(_ experts: ExpertsHandle, _ batch: ExpertBatch) {
        ck_experts_gate(
            engine, expertTable(experts), batch.starts, experts.count, batch.inputs,
            batch.outputs)
    }

    public func expertDown(_ experts: ExpertsHandle, _ batch: ExpertBatch) {
        ck_experts_down(
            engine, expertTable(experts), batch.starts, experts.count, batch.inputs,
            batch.outputs)
    }

    public func combine(
        _ parts: UnsafePointer<UnsafePointer<Float>>, _ choices: RouterChoices, rows: Int,
        into output: DeviceMatrix
    ) {
        ck_weighted_sum(
            engine, floats(output, rows: rows), parts, choices.weights, rows,
            current.config.expertsPerToken, output.columns)
    }

    public func hostRows(of matrix: DeviceMatrix, rows: Int) -> UnsafePointer<Float> {
        UnsafePointer(floats(matrix, rows: rows))
    }

    public func matrix(_ matrix: DeviceMatrix, from row: Int) -> DeviceMatrix {
        precondition((0...matrix.rowCapacity).contains(row), "row \(row) of \(matrix)")
        return DeviceMatrix(
            address: matrix.address + row * matrix.columns * 4,
            rowCapacity: matrix.rowCapacity - row, columns: matrix.columns)
    }

    public func store(
        _ block: UnsafePointer<Float>, rows: Range<Int>, columns: Range<Int>,
        into matrix: DeviceMatrix
    ) {
        precondition(columns.upperBound <= matrix.columns, "\(columns) of \(matrix)")
        let target = floats(matrix, rows: rows.upperBound)
        for row in rows {
            (target + row * matrix.columns + columns.lowerBound).update(
                from: block + (row - rows.lowerBound) * columns.count, count: columns.count)
        }
    }

    public func lmHead(
        _ input: DeviceMatrix, rows: [Int32], _ norm: NormWeights, _ head: LinearHandle,
        into logits: UnsafeMutablePointer<Float>
    ) {
        let gathered = current.headRows.pointer(to: Float.self)
        let source = floats(input, rows: current.rows)
        for (index, row) in rows.enumerated() {
            precondition(row >= 0 && Int(row) < current.rows, "row \(row) of \(current.rows)")
            let start = source + Int(row) * input.columns
            (gathered + index * input.columns).update(from: start, count: input.columns)
        }
        normalize(norm, rows: rows.count, gathered, into: gathered)
        multiply(head, rows: rows.count, gathered, into: logits)
    }
}
