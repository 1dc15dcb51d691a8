package migrations_test

import (
	"io/fs"
	"strings"
	"testing"

	"rowcast/migrations"
	"rowcast/sql"
)

// What a superuser applies by hand is what the migration makes where it may.
func TestEventTriggerIsTheSameByHand(t *testing.T) {
	t.Parallel()
	migration, err := fs.ReadFile(migrations.FS, "00009_dependencies.sql")
	if err != nil {
		t.Fatal(err)
	}
	statement := func(text string) string {
		_, rest, _ := strings.Cut(text, "create event trigger ")
		statement, _, _ := strings.Cut(rest, ";")
		return strings.Join(strings.Fields(statement), " ")
	}
	made, applied := statement(string(migration)), statement(sql.EventTriggers)
	if made == "" || made != applied {
		t.Errorf("the migration has\n%s\nand sql/event_triggers.sql has\n%s", made, applied)
	}
}
