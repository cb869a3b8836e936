import Testing

@testable import Protocol

@Suite struct BlockHashTests {
    static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    static func hex(_ digest: SHA256.Digest) -> String {
        (0..<8).map { index in
            let word = String(digest[index], radix: 16)
            return String(repeating: "0", count: 8 - word.count) + word
        }.joined()
    }

    /// FIPS 180-4's examples, and messages around the lengths at which padding takes another form
    /// (bytes 0, 1, 2, …; digests of Python's hashlib).
    static let vectors: [(message: [UInt8], digest: String)] = [
        ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (Array("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            Array(
                ("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                    + "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu").utf8),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
        ),
        (Array(0..<55), "463eb28e72f82e0a96c0a4cc53690c571281131f672aa229e0d45ae59b598b59"),
        (Array(0..<56), "da2ae4d6b36748f2a318f23e7ab1dfdf45acdc9d049bd80e59de82a60895f562"),
        (Array(0..<63), "29af2686fd53374a36b0846694cc342177e428d1647515f078784d69cdb9e488"),
        (Array(0..<64), "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108"),
    ]

    @Test func theDigestIsSHA256() {
        for vector in Self.vectors {
            #expect(Self.hex(SHA256.digest(vector.message)) == vector.digest)
        }
    }

    /// The chain as another program makes it; in Python:
    ///
    ///     h = sha256(b"phalanx-kv-block-v1\n" + pack("<I", 16) + sha256(b"").digest()).digest()
    ///     h = sha256(h + pack("<16i", *tokens[:16])).digest()
    @Test func theChainIsTheOneThatIsDocumented() {
        var tokens = Array(0..<48 as Range<Int32>)
        tokens[3] = -1
        tokens[20] = 128_814
        var hash = BlockHash.root(blockSize: 16)
        var chain = [Self.hex(hash.bytes)]
        for first in stride(from: 0, to: 48, by: 16) {
            hash = hash.next(tokens: tokens[first..<(first + 16)])
            chain.append(Self.hex(hash.bytes))
        }
        #expect(
            chain == [
                "375716d2e9232f5be5f13933a455640d96018be0b318cbef717acbdab0c6640a",
                "3d9eab70fc9f476e112d81982f7713d314be46a45072196945622b294e50cbae",
                "321be5f3b68de3ffa5ed0eb9692268b1d0ef0d55238c270b108498471d2c4c5f",
                "4438b347671480d45a012f75b5990d6e570b81aabfc65f44e57754d90b851c43",
            ])
        #expect(
            Self.hex(BlockHash.root(blockSize: 4, salt: Array("tenant-7".utf8)).bytes)
                == "18c3daa614cc7a2fe7a89cc71be1b7b123a3247ea9f2768f51c6ad29839758ae")
        #expect(
            Self.hex(BlockHash.root(blockSize: 1).next(tokens: [7]).bytes)
                == "444224ef514fb32b4809de4a840cdf3152f3e3e2856cb9ccaf7a066c7137cdbb")
    }

    @Test func everyTokenAndItsPlaceCount() {
        let root = BlockHash.root(blockSize: 4)
        let first = root.next(tokens: [1, 2, 3, 4])
        #expect(root.next(tokens: [1, 2, 4, 3]) != first)
        #expect(BlockHash.root(blockSize: 4, salt: [97]).next(tokens: [1, 2, 3, 4]) != first)
        #expect(first.next(tokens: [1, 2, 3, 4]) != first)
        #expect(root.next(tokens: [1, 2, 3, 4]) == first)
    }
}
