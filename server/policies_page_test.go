package main

import (
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

var peopleIDs = map[string]string{"alice": aliceID, "bob": bobID, "carol": carolID, "dave": daveID}

// pagePart is a block of SQL, what psql then shows, or a comment that says what somebody's session has come to.
var pagePart = regexp.MustCompile("(?s)```sql\n(.*?)```|```text\n(.*?)```|<!-- (\\w+) (\\S+) (\\w+) -->")

// TestPoliciesPage does what the page tells a DBA to do, as a DBA who is no superuser, and looks at the open sessions.
func TestPoliciesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t)
	if _, err := postgres.ApplyAuth(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(t.Context(), "grant create on schema public to dba"); err != nil {
		t.Fatal(err)
	}
	dba, err := pgx.Connect(t.Context(), db.As(pgtest.DBARole))
	if err != nil {
		t.Fatal(err)
	}
	defer dba.Close(t.Context())
	members, err := fs.ReadFile(sql.Policies, "policies/room_members.sql")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	run := func(statements string) {
		t.Helper()
		results, err := dba.PgConn().Exec(t.Context(), statements).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statements, err)
		}
		if lines := shownByPsql(results); lines != nil {
			shown = lines
		}
	}
	run(sql.Chat)
	run(string(members))
	r := start(t, db, nil)
	sessions := map[string]*witness{}
	blocks, changes := 0, 0
	for _, part := range pagePart.FindAllStringSubmatch(string(page), -1) {
		switch {
		case part[1] != "":
			for _, statement := range strings.SplitAfter(part[1], ";\n") { // which psql sends one by one
				run(statement)
			}
			blocks++
		case part[2] != "":
			if want := tableText(part[2]); want != strings.Join(shown, "\n") {
				t.Errorf("the page shows\n%s\nand Postgres\n%s", want, strings.Join(shown, "\n"))
			}
		default:
			id, known := peopleIDs[part[3]]
			if !known {
				t.Fatalf("%s: who is that?", part[0])
			}
			w := sessions[part[3]+" "+part[4]]
			if w == nil {
				w = &witness{running: r, client: r.dial(token(t, id, "authenticated", nil)), topic: part[4], is: outside}
				sessions[part[3]+" "+part[4]] = w
			}
			w.becomes(part[0], standing(part[5]))
			changes++
		}
	}
	if blocks < 10 || changes < 8 {
		t.Errorf("%d blocks and %d sessions were found", blocks, changes)
	}
}

// TestPoliciesPageInPsql runs the test that the page shows for plain psql in that.
func TestPoliciesPageInPsql(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("there is no psql here; TestPoliciesPage sends the same statements")
	}
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(page), "## Testing them")
	part := pagePart.FindStringSubmatch(chapter)
	if part == nil || !strings.HasPrefix(part[1], "begin;\n") {
		t.Fatal("docs/policies.md has no such test")
	}
	db := withPolicies(t)
	command := exec.CommandContext(t.Context(), psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", db.AdminURL)
	command.Stdin = strings.NewReader(part[1])
	if out, err := command.CombinedOutput(); err != nil || string(out) != "f\n" {
		t.Errorf("psql: %s, %v", out, err)
	}
	(ruling{"authenticated", bobID, "room:1", "broadcast", true, true}).check(t, db)
}

// shownByPsql is the last result with columns, without its frame: cells between bars.
func shownByPsql(results []*pgconn.Result) (lines []string) {
	for _, result := range results {
		if len(result.FieldDescriptions) == 0 {
			continue
		}
		lines = nil
		var names []string
		for _, field := range result.FieldDescriptions {
			names = append(names, field.Name)
		}
		lines = append(lines, strings.Join(names, " | "))
		for _, row := range result.Rows {
			lines = append(lines, joined(row))
		}
	}
	return lines
}

func joined(cells [][]byte) string {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = string(cell)
	}
	return strings.Join(texts, " | ")
}

// tableText is what psql shows without its frame.
func tableText(shown string) string {
	var lines []string
	for line := range strings.Lines(shown) {
		if line = strings.Join(strings.Fields(line), " "); strings.Trim(line, "-+ ") != "" && !strings.HasSuffix(line, " rows)") && line != "(1 row)" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// The page shows the file that TestPolicyTest runs, and names every sample.
func TestPoliciesPageIsComplete(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```yaml"+aliceAndBob+"```") {
		t.Error("docs/policies.md does not show the file of TestPolicyTest")
	}
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.Contains(string(page), "\n| `"+strings.TrimPrefix(file, "policies/")+"` |") {
			t.Errorf("docs/policies.md does not list %s", file)
		}
	}
}
