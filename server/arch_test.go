package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is who may import whom: downwards only. A package that is not in the table does not belong here.
var mayImport = map[string][]string{
	"migrations":       {},
	"sql":              {},
	"server/snapshot":  {},
	"server/metrics":   {},
	"server/protocol":  {},
	"server/sockopt":   {},
	"server/bucket":    {},
	"server/repeats":   {},
	"server/printable": {},

	"server/rights/aim": {},

	"server/hub":      {"server/protocol", "server/snapshot", "server/metrics"},
	"server/socket":   {"server/protocol", "server/repeats", "server/sockopt", "server/metrics"},
	"server/postgres": {"migrations", "sql", "server/sockopt", "server/metrics"},

	"server/decisions": {"sql", "server/postgres", "server/metrics"},
	"server/lint":      {"sql", "server/postgres"},
	"server/policies":  {"sql", "server/postgres", "server/printable", "server/protocol"},
	"server/explain":   {"sql", "server/postgres", "server/printable", "server/protocol"},
	"server/feed":      {"sql", "server/wal", "server/postgres", "server/snapshot", "server/metrics"},
	"server/rights":    {"sql", "server/rights/aim", "server/postgres", "server/snapshot", "server/metrics"},
	"server/auth":      {"sql", "server/feed", "server/postgres", "server/protocol", "server/snapshot", "server/metrics"},

	"server/wal":     {"sql", "server/postgres", "server/metrics"},
	"server/changes": {"sql", "server/wal", "server/postgres", "server/protocol", "server/repeats", "server/snapshot", "server/rights/aim", "server/metrics"},

	"server/presence": {"server/hub", "server/protocol", "server/metrics"},
	"server/jwks":     {"server/auth", "server/metrics"},
	"server/messages": {"sql", "server/feed", "server/hub", "server/postgres", "server/protocol", "server/repeats", "server/snapshot", "server/metrics"},
	"server/channel":  {"server/auth", "server/bucket", "server/changes", "server/decisions", "server/hub", "server/messages", "server/presence", "server/protocol", "server/repeats", "server/metrics"}, // not socket
	"server/api":      {"server/auth", "server/bucket", "server/decisions", "server/explain", "server/hub", "server/protocol", "server/metrics"},                                                         // not socket

	"server/metrics/metricstest": {"server/metrics"}, // for tests
	"server/auth/authtest":       {},                 // for tests

	"server/pgtest":      {"migrations", "sql", "server/postgres"}, // for tests and dev
	"server/pgtest/with": {"server/pgtest"},
	"server/bench":       {"sql", "server/postgres", "server/protocol", "server/snapshot", "server/wal", "server/changes", "server/feed", "server/rights", "server/auth", "server/metrics", "server/pgtest"},
	"server":             {"*"},
}

// onlyIn is where a module may be imported at all.
var onlyIn = map[string][]string{
	"net/http":                            {"server/socket", "server/api", "server/jwks", "server", "server/bench"},
	"github.com/coder/websocket":          {"server/socket", "server/bench"}, // bench compares with its plain use
	"github.com/jackc/pgx/v5":             {"server/postgres", "server/decisions", "server/explain", "server/lint", "server/policies", "server/feed", "server/auth", "server/rights", "server/messages", "server/wal", "server/changes", "server/pgtest", "server", "server/bench"},
	"github.com/jackc/pgx/v5/pgxpool":     {"server/postgres", "server/pgtest"}, // elsewhere, every wait has a bound: postgres.Pool
	"github.com/jackc/pgxlisten":          {"server/postgres"},
	"github.com/jackc/pglogrepl":          {"server/wal"},
	"github.com/pressly/goose/v3":         {"server/postgres"},
	"github.com/golang-jwt/jwt/v5":        {"server/auth"},
	"github.com/prometheus/client_golang": {"server/metrics", "server/api"},
	"go.yaml.in/yaml/v4":                  {"server/policies"},
	"testing":                             {},
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "rowcast/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	seen := map[string]bool{}
	for decoder.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "rowcast/")
		seen[name] = true
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s is not in the table of imports", name)
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, "rowcast/"); ok {
				if !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
					t.Errorf("%s imports %s: not downwards", name, ours)
				}
				continue
			}
			for module, where := range onlyIn {
				if (imported == module || strings.HasPrefix(imported, module+"/")) && !slices.Contains(where, name) {
					t.Errorf("%s imports %s, which belongs to %v", name, imported, where)
				}
			}
		}
	}
	for name := range maps.Keys(mayImport) {
		if !seen[name] {
			t.Errorf("the table names %s, which does not exist", name)
		}
	}
}

// sqlText is a string that is a statement. Upper or lower case, at its beginning.
var sqlText = regexp.MustCompile(`(?is)^\s*(select\s+\S+\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|create\s+(table|function|role|schema|policy|trigger)\s|alter\s+(table|role)\s|drop\s|grant\s+\S+\s+(on|to)\s)`)

// mayHoldSQL: making databases and roles for tests needs statements that are never part of the product.
var mayHoldSQL = []string{"server/pgtest"}

func TestNoSQLInGo(t *testing.T) {
	t.Parallel()
	eachGoFile(t, func(path string, source []byte) {
		if strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(mayHoldSQL, func(dir string) bool { return strings.HasPrefix(path, dir+"/") }) {
			return
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), path, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != gotoken.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err == nil && sqlText.MatchString(text) && !strings.Contains(text, "%w") { // an error may speak of SQL
				t.Errorf("%s holds SQL: %.60q", path, text)
			}
			return true
		})
	})
}

func TestFilesStayShort(t *testing.T) {
	t.Parallel()
	const limit = 600 // at 400 it is time to look again
	eachGoFile(t, func(path string, source []byte) {
		if lines := bytes.Count(source, []byte("\n")); lines > limit {
			t.Errorf("%s has %d lines, at most %d", path, lines, limit)
		}
	})
}

// Top-level folders are fixed; code lives in these and nowhere else.
func TestNoOtherFolderHoldsCode(t *testing.T) {
	t.Parallel()
	eachGoFile(t, func(path string, _ []byte) {
		top, _, _ := strings.Cut(path, "/")
		if !slices.Contains([]string{"server", "sql", "migrations"}, top) {
			t.Errorf("%s: Go code belongs into server, sql or migrations", path)
		}
	})
}

// eachGoFile calls do for every Go file of the project, with its path from the root.
func eachGoFile(t *testing.T, do func(path string, source []byte)) {
	t.Helper()
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		source, err := fs.ReadFile(root, path)
		if err == nil {
			do(path, source)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
