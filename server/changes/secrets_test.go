package changes

import (
	"strings"
	"testing"
)

// A row that nobody can look for as the user is told of as such, if at all: which filters it matches would tell what is in it.
func TestFiltersTellNothingOfRowsThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sql, refused string }{
		"no key":   {"alter table notes drop constraint notes_pkey", "Error 400: Bad Request, no primary key"},
		"no grant": {"revoke select on notes from authenticated; grant select (body) on notes to authenticated", "Error 401: Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheater(t, nil, notes, test.sql)
			const guess = `{"event":"*","schema":"public","table":"notes","filter":"body=eq.secret"}`
			ann, guesser := th.seat(user(annID), guess, all), th.seat(user(annID), guess)
			ann.await("Subscribed")
			guesser.await("Subscribed")
			th.exec("insert into notes values (1, '"+bobID+"', 'secret')", "insert into notes values (2, '"+bobID+"', 'other')")
			want := `[2] INSERT notes {} [` + test.refused + `]`
			ann.expect(want)
			ann.expect(want)
			guesser.sub.Rebind("service_role", service.Claims)
			guesser.expect("+Subscribed to PostgreSQL")
		})
	}
}

// Two filters that read the same in one form or another are two.
func TestEveryFilterIsChecked(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "revoke select on notes from anon; grant select (id, body) on notes to anon")
	anon := th.seat(Group{"anon", []byte(`{"role":"anon"}`)},
		`{"event":"*","schema":"public","table":"notes","filter":"body=eq.\"x Values:[]} {Column:owner Not:false Op:is Value:null\""}`,
		`{"event":"*","schema":"public","table":"notes","filter":"body=eq.x,owner=is.null"}`)
	if told := anon.await(""); !strings.HasSuffix(told[0], "invalid column for filter owner") {
		t.Errorf("told %q", told)
	}
}

// What was taken out of a row before it was shared stays out, also where not the row says who may see it.
func TestVersionsFromBeforeARowWasSharedAreNotShown(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, `
		create table docs (id int primary key, title text);
		create table shared (doc int, who uuid);
		alter table docs enable row level security;
		grant select on docs, shared to authenticated;
		create policy shared on docs for select using (exists (select from shared where doc = docs.id and who = auth.uid()));
		alter publication supabase_realtime add table docs`)
	ann := th.subscribed(user(annID), `{"event":"*","schema":"public","table":"docs"}`)
	th.exec("insert into docs values (1, 'confidential'); begin; update docs set title = 'redacted'; insert into shared values (1, '" + annID + "'); commit")
	ann.expect(`[1] UPDATE docs {"id":1,"title":"redacted"} was {"id":1}`)
}
