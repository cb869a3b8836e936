/// What a rank's own experts cost, by a clock that programs that measure put in. Daemons have none.
final class ExpertTimer {
    var clock: (() -> Int64)?
    var nanoseconds: Int64 = 0

    var now: Int64 { clock?() ?? 0 }
}
