package pgtest

import "testing"

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	if err := c.CreateRoles(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := NewPgBouncer(t, c, "transaction")
	for range 2 {
		address := b.URL("postgres", ServerRole) + "&default_query_exec_mode=exec"
		if got := answer[string](t, address, "select current_user"); got != ServerRole {
			t.Errorf("connected as %s", got)
		}
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
