/// Names the content of a full block of the KV cache: its tokens and all tokens before them.
///
/// The bytes are a contract, so that a router in any language can compute which blocks a prompt
/// has. All integers are little-endian; `‖` joins bytes:
///
///     root    = SHA-256("phalanx-kv-block-v1\n" ‖ u32(block size) ‖ SHA-256(salt))
///     hash[0] = SHA-256(root        ‖ i32(token) for each token of block 0)
///     hash[i] = SHA-256(hash[i - 1] ‖ i32(token) for each token of block i)
///
/// `salt` is the UTF-8 of the request's `cache_salt`, which keeps apart those that must not share
/// blocks; it is empty where a request has none. Only full blocks have a hash.
///
/// Why SHA-256: a block is handed to whoever has its hash, so whoever could make another prompt
/// with the hash of a known one (a public system prompt) could have his KV cache read by others.
/// Fast hashes without a secret key (XXH3, SipHash under a published key) promise nothing there,
/// and a secret key would end the contract. Finding any two prompts with one hash takes about
/// 2^128 attempts. Every language has it, and it costs less than a microsecond a block.
///
/// Source of the idea: vLLM's automatic prefix caching (its `sha256_cbor`).
public struct BlockHash: Hashable, Sendable {
    let words: SHA256.Digest

    private init(_ words: SHA256.Digest) { self.words = words }

    /// What the first block of a sequence is chained to.
    public static func root(blockSize: Int, salt: [UInt8] = []) -> BlockHash {
        var bytes = Array("phalanx-kv-block-v1\n".utf8)
        for shift in stride(from: 0, to: 32, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: blockSize >> shift))
        }
        bytes += BlockHash(SHA256.digest(salt)).bytes
        return BlockHash(SHA256.digest(bytes))
    }

    /// The hash of a block that follows this one.
    ///
    /// - Parameter tokens: all tokens of the block.
    public func next(tokens: ArraySlice<Int32>) -> BlockHash {
        tokens.withUnsafeBufferPointer { tokens in
            BlockHash(
                SHA256.digest(wordCount: 8 + tokens.count) { index in
                    // Big-endian words hold the little-endian bytes of a token in this order.
                    index < 8
                        ? words[index] : UInt32(bitPattern: tokens[index - 8]).byteSwapped
                })
        }
    }

    /// The digest's first eight bytes, as a big-endian number: enough to find a block again where a
    /// mistake costs time alone.
    public var prefix: UInt64 { UInt64(words[0]) << 32 | UInt64(words[1]) }

    /// The digest's 32 bytes.
    public var bytes: [UInt8] {
        (0..<8).flatMap { index in
            stride(from: 24, through: 0, by: -8).map { shift in
                UInt8(truncatingIfNeeded: words[index] >> UInt32(shift))
            }
        }
    }
}
