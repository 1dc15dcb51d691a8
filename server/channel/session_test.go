package channel

import (
	"strings"
	"testing"
)

// A panic on the stack that a join has for itself must not end the program: it ends the socket, whose goroutine has to
// hear of it.
func TestPanicApartIsTheCallers(t *testing.T) {
	t.Parallel()
	did := false
	apart(func() { did = true })
	if !did {
		t.Fatal("not waited for")
	}
	defer func() {
		p, _ := recover().(string)
		if !strings.Contains(p, "a bug") || !strings.Contains(p, "TestPanicApartIsTheCallers") {
			t.Errorf("recovered %q", p)
		}
	}()
	apart(func() { panic("a bug") })
	t.Error("went on")
}
