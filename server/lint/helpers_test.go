package lint_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limits are generous: nothing here is about time.
var limits = postgres.Limits{Statement: time.Minute, Lock: time.Minute}

// defaults are those of a server on which nothing is set.
func defaults() lint.Settings {
	return lint.Settings{
		AllowedRoles: []string{"anon", "authenticated", "service_role"}, BypassRoles: []string{"service_role"},
		Issuers: 1, PoolSize: 12, Publication: "supabase_realtime", FeedSource: "auto",
	}
}

// run applies rules as the server's role would.
func run(t *testing.T, url string, rules []lint.Rule, s lint.Settings) []lint.Finding {
	t.Helper()
	var found []lint.Finding
	err := postgres.Inspect(t.Context(), url, limits, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = lint.Run(ctx, tx, rules, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// only is the rule of a name.
func only(t *testing.T, rules []lint.Rule, name string) []lint.Rule {
	t.Helper()
	for _, r := range rules {
		if r.Name == name {
			return []lint.Rule{r}
		}
	}
	t.Fatalf("there is no rule %s", name)
	return nil
}

func exec(t *testing.T, db *pgtest.DB, statements string) {
	t.Helper()
	if _, err := db.Admin.Exec(t.Context(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// fixture is a rule beside something that it must find, and the nearest thing that it must not.
type fixture struct {
	good, bad string               // SQL; {role} is a role of the test's own, which a token may name
	options   string               // of that role
	settings  func(*lint.Settings) // for both
	worse     func(*lint.Settings) // for what is bad alone
	object    string               // of the finding; {role} as above
	words     string               // somewhere in it
}

// check shows that a rule says nothing before, nothing of what is good, and what is wrong of what is bad.
func (f fixture) check(t *testing.T, rules []lint.Rule, name string) {
	t.Helper()
	db, s := pgtest.New(t), defaults()
	role := ""
	if strings.Contains(f.good+f.bad, "{role}") {
		role = db.NewRole(t, f.options)
		s.AllowedRoles = append(s.AllowedRoles, role)
	}
	if f.settings != nil {
		f.settings(&s)
	}
	fill := strings.NewReplacer("{role}", role).Replace
	rule := only(t, rules, name)
	exec(t, db, fill(f.good))
	if found := run(t, db.URL, rule, s); len(found) > 0 {
		t.Errorf("%s finds this in what is good: %+v", name, found)
	}
	exec(t, db, fill(f.bad))
	if f.worse != nil {
		f.worse(&s)
	}
	found := run(t, db.URL, rule, s)
	if len(found) != 1 || found[0].Object != strings.ReplaceAll(fill(f.object), "{database}", db.Name) || !strings.Contains(found[0].Finding, f.words) || found[0].Mend == "" ||
		found[0].Rule != name || found[0].Severity != rule[0].Severity {
		t.Errorf("%s finds this in what is bad: %+v, want one about %s", name, found, fill(f.object))
	}
}

// checkAll checks each rule against its fixture. Every rule has one, but for those that are tested elsewhere.
func checkAll(t *testing.T, rules []lint.Rule, fixtures map[string]fixture, elsewhere ...string) {
	t.Helper()
	for name, f := range fixtures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.check(t, rules, name)
		})
	}
	for _, r := range rules {
		if _, ok := fixtures[r.Name]; !ok && !slices.Contains(elsewhere, r.Name) {
			t.Errorf("rule %s has no fixture", r.Name)
		}
	}
}
