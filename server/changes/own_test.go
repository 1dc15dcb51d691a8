package changes

import (
	"testing"

	"rowcast/server/snapshot"
)

func TestOwnTransactionsAreBounded(t *testing.T) {
	t.Parallel()
	var own ownXIDs
	for x := snapshot.XID(1); x <= 2*maxOwn+1; x++ {
		own.add(x)
	}
	if len(own.known) != maxOwn || len(own.ring) != maxOwn || own.has(maxOwn+1) || !own.has(maxOwn+2) || !own.has(2*maxOwn+1) {
		t.Errorf("%d are known, of %d", len(own.known), len(own.ring))
	}
}

// Of each row the last writer is remembered, and the last other one: whoever asks is one of them, or neither.
func TestWritersSinceAView(t *testing.T) {
	t.Parallel()
	s := since{}
	s.note(1, 10)
	s.note(1, 11)
	s.note(1, 11)
	s.note(2, 11)
	if !s.byOthers(1, 11) || !s.byOthers(1, 10) || s.byOthers(2, 11) || !s.byOthers(2, 10) || s.byOthers(3, 10) {
		t.Errorf("%v", s)
	}
}
