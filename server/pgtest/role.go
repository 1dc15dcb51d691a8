package pgtest

import (
	"context"
	"fmt"
)

// NewRole makes a role that only this test knows, with options of CREATE ROLE; where these say LOGIN, it may at the address
// As(role). Roles belong to the whole server: after the test it is dropped, with what it owns in this database.
func (d *DB) NewRole(t TB, options string) (role string) {
	t.Helper()
	role = "test_" + randomName(6)
	if password := d.server.passwordOf(role); password != "" {
		options += fmt.Sprintf(" password '%s'", password)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	if _, err := d.Admin.Exec(ctx, "create role "+role+" "+options); err != nil {
		t.Fatalf("pgtest: create role: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		for _, statement := range []string{"reassign owned by " + role + " to current_user", "drop owned by " + role + " cascade", "drop role " + role} {
			if _, err := d.Admin.Exec(ctx, statement); err != nil {
				t.Fatalf("pgtest: %s: %v", statement, err)
			}
		}
	})
	return role
}
