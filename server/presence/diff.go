package presence

import (
	"iter"

	"rowcast/server/protocol"
)

// chunks are the payloads of presence_diff for what has changed, sorted by key. What changed about one member is in one
// of them, so that nobody is gone for a moment who has only changed.
func chunks(all []difference) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for from := 0; from < len(all); {
			to, size := from, 0
			for to < len(all) && (to == from || size+all[to].size() <= maxDiff) {
				size += all[to].size()
				to++
			}
			if !yield(payload(all[from:to])) {
				return
			}
			from = to
		}
	}
}

func (d difference) size() (size int) {
	for _, m := range []*meta{d.joins, d.leaves} {
		if m != nil {
			size += len(d.key) + protocol.PresentOverhead + len(m.json)
		}
	}
	return size
}

func payload(all []difference) []byte {
	var joins, leaves []protocol.Present
	for _, d := range all {
		joins = add(joins, d.key, d.joins)
		leaves = add(leaves, d.key, d.leaves)
	}
	return protocol.PresenceDiff(joins, leaves)
}

// add puts a meta to those of its key, which come one after the other.
func add(to []protocol.Present, key string, m *meta) []protocol.Present {
	if m == nil {
		return to
	}
	if last := len(to) - 1; last < 0 || to[last].Key != key {
		to = append(to, protocol.Present{Key: key})
	}
	last := &to[len(to)-1]
	last.Metas = append(last.Metas, m.json)
	return to
}
