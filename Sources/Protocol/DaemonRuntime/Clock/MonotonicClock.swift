internal import CLinux
public import Protocol

/// The one place where a daemon reads the time.
public enum MonotonicClock {
    public static func now() -> Instant { Instant(nanoseconds: cl_monotonic_nanoseconds()) }

    /// Wall clock, for logs and the `created` field of answers; never for deadlines.
    public static func wallMicroseconds() -> Int64 { cl_realtime_microseconds() }

    /// CPU time of this process over all its threads.
    public static func processCPU() -> Interval {
        Interval(nanoseconds: cl_process_cpu_nanoseconds())
    }

    /// Eight random bytes of the kernel, for identities and unseeded requests.
    public static func randomUInt64() -> UInt64 { cl_random_u64() }
}
