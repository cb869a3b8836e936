/// Every sequence accepted and not ended, by id.
///
/// Records stand in an array and are changed in place; the dictionary only finds their place and
/// is never iterated. (Changing a large value inside a dictionary allocates at every access.)
struct SequenceTable: Sendable {
    private var records: [ScheduledSequence?] = []
    private var freePlaces: [Int] = []
    private var places: [SequenceID: Int] = [:]

    var count: Int { places.count }
    var isEmpty: Bool { places.isEmpty }

    /// A copy of the record; nil where the id is not known.
    subscript(id: SequenceID) -> ScheduledSequence? {
        guard let place = places[id] else { return nil }
        return records[place]
    }

    func contains(_ id: SequenceID) -> Bool { places[id] != nil }

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

    mutating func remove(_ id: SequenceID) -> ScheduledSequence {
        guard let place = places.removeValue(forKey: id), let sequence = records[place] else {
            preconditionFailure("no sequence \(id)")
        }
        records[place] = nil
        freePlaces.append(place)
        return sequence
    }

    /// Changes a record in place.
    @inline(__always)
    mutating func update(_ id: SequenceID, _ change: (inout ScheduledSequence) -> Void) {
        guard let place = places[id] else { preconditionFailure("no sequence \(id)") }
        // Written with `?`, the optional is changed where it stands.
        records[place]?.change(change)
    }
}

extension ScheduledSequence {
    @inline(__always)
    fileprivate mutating func change(_ change: (inout ScheduledSequence) -> Void) {
        change(&self)
    }
}
