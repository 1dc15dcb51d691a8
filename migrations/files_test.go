package migrations_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"

	"rowcast/migrations"
)

// rewritten is the migrations with changed texts.
func rewritten(t *testing.T, change func(string) string) fs.FS {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: []byte(change(string(text)))}
	}
	return files
}

// upToVersion is the migrations without those after a version.
func upToVersion(t *testing.T, last int64) fs.FS {
	t.Helper()
	files := rewritten(t, func(text string) string { return text }).(fstest.MapFS)
	for name := range files {
		version, err := goose.NumericComponent(name)
		if err != nil {
			t.Fatal(err)
		}
		if version > last {
			delete(files, name)
		}
	}
	return files
}

// queries reads what lies in sql/, so that a file that nobody embedded is found too.
func queries(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "sql", "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(path)] = string(text)
	}
	return texts
}

// What waits for a lock on a table has everybody else wait behind it, so no migration does for long. And what it makes must
// mean the same wherever the names in it would lead.
func TestMigrationsBoundTheirLocksAndNames(t *testing.T) {
	t.Parallel()
	const bound = "set local lock_timeout = '5s';\nset local search_path = pg_catalog, pg_temp;\n"
	rewritten(t, func(text string) string {
		for _, direction := range []string{"-- +goose Up\n", "-- +goose Down\n"} {
			if !strings.Contains(text, direction+bound) {
				t.Errorf("does not begin with %q after %q: %.100s", bound, direction, text)
			}
		}
		return text
	})
}
