internal import CKernels

/// The backend's threads, for rows that are not a stage of the model. They must not be asked for
/// while an operation of the backend runs: the engine's thread issues both, in order.
extension CPUBackend: RowRunner {
    public var threadCount: Int { ck_pool_threads(ck_engine_pool(engine)) }

    public func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var task = body
            withUnsafeMutablePointer(to: &task) { task in
                ck_pool_run(
                    ck_engine_pool(engine), count,
                    { context, item, thread in
                        let task = context.assumingMemoryBound(
                            to: ((Int, Int) -> Void).self)
                        task.pointee(item, thread)
                    }, task)
            }
        }
    }
}
