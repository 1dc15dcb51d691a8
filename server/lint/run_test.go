package lint

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// TestRulesAreIndependent: one that fails, or takes too long, is a finding, and the others are applied all the same.
func TestRulesAreIndependent(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "z_last", Severity: Hint, query: `select 'b', 'two', 'mend' union all select 'a', $1::jsonb ->> 'issuers', ''`},
		{Name: "broken", Severity: Hint, query: `select 1 / 0, 'finding', 'mend'`},
		{Name: "writes", Severity: Hint, query: `create table here (a int)`},
		{Name: "slow", Severity: Hint, query: `select pg_sleep(60)::text, 'finding', 'mend'`},
		{Name: "shapeless", Severity: Hint, query: `select 1`},
		{Name: "nothing", Severity: Error, query: `select 'a', 'b', 'c' where false`},
		{Name: "first", Severity: Warning, query: `select current_setting('transaction_read_only'), current_setting('search_path'), 'mend'`},
	}
	url := pgtest.New(t).URL
	err := postgres.Inspect(t.Context(), url, postgres.Limits{Statement: time.Second, Lock: time.Second}, func(ctx context.Context, tx pgx.Tx) error {
		got, err := Run(ctx, tx, append([]Rule{}, rules[:4]...), Settings{Issuers: 7})
		if err != nil {
			return err
		}
		rest, err := Run(ctx, tx, rules[5:], Settings{})
		if err != nil {
			return err
		}
		got = append(got, rest...)
		Sort(got)
		for i, f := range got {
			if after, failed := strings.CutPrefix(f.Finding, "could not be applied: "); failed {
				got[i].Finding, got[i].Mend = after[strings.Index(after, "(SQLSTATE"):], ""
			}
		}
		want := []Finding{
			{"broken", Error, "rule broken", "(SQLSTATE 22012)", ""},
			{"first", Warning, "on", "pg_catalog, pg_temp", "mend"},
			{"slow", Error, "rule slow", "(SQLSTATE 57014)", ""},
			{"writes", Error, "rule writes", "(SQLSTATE 25006)", ""},
			{"z_last", Hint, "a", "7", ""},
			{"z_last", Hint, "b", "two", "mend"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		_, err = Run(ctx, tx, rules[4:5], Settings{})
		return err
	})
	if err == nil || !strings.HasPrefix(err.Error(), "apply rule shapeless: ") {
		t.Errorf("a rule with another number of columns: %v", err)
	}
}

// TestInspectionEndsWithItsConnection: an end of the connection is no finding.
func TestInspectionEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	err := postgres.Inspect(t.Context(), db.URL, postgres.Limits{Statement: time.Minute, Lock: time.Minute}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := db.Admin.Exec(ctx, "select pg_terminate_backend($1, 30000)", tx.Conn().PgConn().PID()); err != nil {
			t.Fatal(err)
		}
		found, err := Run(ctx, tx, []Rule{{Name: "any", query: `select 'a', 'b', 'c'`}}, Settings{})
		if len(found) > 0 {
			t.Errorf("found %+v", found)
		}
		return err
	})
	if err == nil {
		t.Error("nothing is said of the lost connection")
	}
}

func TestRulesSayWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"select 1":                             "does not say",
		"-- error: What.\nselect 1":            "does not say",
		"-- fatal: What.\n-- Why.\nselect 1":   "begins with none",
		"-- What is wrong.\n-- Why.\nselect 1": "begins with none",
		"-- hint: What.\n-- Why.\n-- More.\n":  "",
	} {
		rule, err := parse("r", text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", text, rule, err)
		}
		if err == nil && (rule.Title != "What." || rule.Why != "Why. More." || rule.Severity != Hint) {
			t.Errorf("%q: %+v", text, rule)
		}
	}
	for _, rules := range [][]Rule{Policies(), Database()} {
		seen := map[string]bool{}
		for _, r := range rules {
			if seen[r.Name] || !strings.HasSuffix(r.Title, ".") || !strings.HasSuffix(r.Why, ".") {
				t.Errorf("rule %s: %q %q", r.Name, r.Title, r.Why)
			}
			seen[r.Name] = true
		}
	}
}
