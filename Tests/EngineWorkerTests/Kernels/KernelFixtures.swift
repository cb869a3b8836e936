import CKernels
import Testing

/// SplitMix64 (Steele, Lea and Flood, 2014): repeatable values for tests.
struct KernelRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
        (0..<count).map { _ in Float.random(in: -scale...scale, using: &self) }
    }
    mutating func bf16(_ count: Int) -> [UInt16] {
        floats(count).map { UInt16($0.bitPattern >> 16) }
    }
    mutating func bytes(_ count: Int) -> [Int8] {
        (0..<count).map { _ in Int8.random(in: -128...127, using: &self) }
    }
}

/// An output array between guards: reads out of bounds show in the results' bits (the guards are
/// NaN or a pattern), writes out of bounds show in ``isIntact``.
final class Guarded<Element: BitwiseCopyable & Equatable> {
    static var guardCount: Int { 64 }
    private let memory: UnsafeMutablePointer<Element>
    private let before: [UInt8]
    private let count: Int

    init(_ values: [Element], filler: Element) {
        count = values.count
        memory = .allocate(capacity: count + 2 * Self.guardCount)
        memory.initialize(repeating: filler, count: count + 2 * Self.guardCount)
        before = Array(
            UnsafeRawBufferPointer(
                start: memory, count: Self.guardCount * MemoryLayout<Element>.stride))
        (memory + Self.guardCount).update(from: values, count: count)
    }

    deinit { memory.deallocate() }

    var pointer: UnsafeMutablePointer<Element> { memory + Self.guardCount }
    var values: [Element] { Array(UnsafeBufferPointer(start: pointer, count: count)) }
    var isIntact: Bool {
        let head = UnsafeRawBufferPointer(start: memory, count: before.count)
        let tail = UnsafeRawBufferPointer(start: pointer + count, count: before.count)
        return head.elementsEqual(before) && tail.elementsEqual(before)
    }
}

func guarded(_ values: [Float]) -> Guarded<Float> { Guarded(values, filler: .nan) }

extension Array where Element == Float {
    var bitPatterns: [UInt32] { map(\.bitPattern) }

    /// Largest difference relative to `1 + |expected|`; NaN counts as infinite.
    func distance(to expected: [Float]) -> Float {
        guard count == expected.count else { return .infinity }
        return zip(self, expected).reduce(0) { worst, pair in
            let difference = abs(pair.0 - pair.1) / (1 + abs(pair.1))
            return difference.isNaN ? .infinity : Swift.max(worst, difference)
        }
    }
}

/// The vector levels that this CPU runs.
enum Levels {
    static let vector = [CK_AVX2, CK_AVX512, CK_AVX512_BF16, CK_AMX].map { Int($0) }.filter {
        ck_kernels_select(Int32($0)) != nil
    }

    static func kernels(_ level: Int) throws -> ck_kernels {
        try #require(ck_kernels_select(Int32(level))).pointee
    }
    static func reference() throws -> ck_kernels { try kernels(Int(CK_REFERENCE)) }
}
