/// Every sequence accepted and not ended.
///
/// A record stands at its place until it is removed, and is read and changed there: a copy of one
/// would cost a dozen reference counts, and appending a token beside a copy would copy all tokens.
/// The dictionary only finds places of ids that come from outside, and is never iterated.
struct SequenceTable: Sendable {
    private var records: [ScheduledSequence] = []
    private var freePlaces: [Int] = []
    private var places: [SequenceID: Int] = [:]

    var count: Int { places.count }
    var isEmpty: Bool { places.isEmpty }

    /// Where the record of `id` stands; nil where the id is not known.
    func place(of id: SequenceID) -> Int? { places[id] }

    /// The record at `place`, where it stands.
    @inline(__always)
    subscript(place: Int) -> ScheduledSequence {
        _read { yield records[place] }
        _modify { yield &records[place] }
    }

    mutating func insert(_ sequence: ScheduledSequence) {
        precondition(places[sequence.id] == nil, "sequence \(sequence.id) exists already")
        if let place = freePlaces.popLast() {
            records[place] = sequence
            places[sequence.id] = place
        } else {
            places[sequence.id] = records.count
            records.append(sequence)
        }
    }

    mutating func remove(at place: Int) -> ScheduledSequence {
        var sequence = ScheduledSequence.vacant
        swap(&sequence, &records[place])
        let known = places.removeValue(forKey: sequence.id)
        precondition(known == place, "\(sequence.id) is removed from \(place)")
        freePlaces.append(place)
        return sequence
    }
}
