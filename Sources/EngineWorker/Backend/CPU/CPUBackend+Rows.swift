internal import CKernels

/// The backend's threads, for rows that are not a stage of the model. They must not be asked for
/// while an operation of the backend runs: the engine's thread issues both, in order.
extension CPUBackend: RowRunner {
    public var threadCount: Int { ck_pool_threads(ck_engine_pool(engine)) }

    public func run(_ count: Int, _ work: RowWork) {
        withExtendedLifetime(work) {
            ck_pool_run(
                ck_engine_pool(engine), count,
                { context, item, thread in
                    Unmanaged<RowWork>.fromOpaque(context).takeUnretainedValue()
                        .perform(item: item, thread: thread)
                }, Unmanaged.passUnretained(work).toOpaque())
        }
    }
}
