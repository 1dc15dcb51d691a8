package main

import (
	"io/fs"
	"path"
	"slices"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	aliceID = "a11ce000-0000-4000-8000-000000000001"
	bobID   = "b0b00000-0000-4000-8000-000000000002"
	carolID = "ca201000-0000-4000-8000-000000000003"
	daveID  = "da5e0000-0000-4000-8000-000000000004"
)

// withChat is a database with the chat sample in it.
func withChat(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	if _, err := postgres.ApplyAuth(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(t.Context(), sql.Chat); err != nil {
		t.Fatal(err)
	}
	return db
}

// withPolicies has all samples in it too, as dev has.
func withPolicies(t *testing.T) *pgtest.DB {
	t.Helper()
	db := withChat(t)
	conn, err := db.Admin.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if err := applyPolicies(t.Context(), conn.Conn()); err != nil {
		t.Fatal(err)
	}
	return db
}

func applySample(t *testing.T, db *pgtest.DB, name string) {
	t.Helper()
	text, err := fs.ReadFile(sql.Policies, "policies/"+name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Admin.Exec(t.Context(), string(text)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// decide asks what the policies of this moment say.
func (r ruling) decide(t *testing.T, db *pgtest.DB) (receive, send bool) {
	t.Helper()
	err := db.Admin.QueryRow(t.Context(), `
		with c as (select jsonb_strip_nulls(jsonb_build_object('role', $3::text, 'sub', nullif($4, ''))) as claims)
		select realtime.can('receive', $1, $2, claims), realtime.can('send', $1, $2, claims) from c`,
		r.topic, r.extension, r.role, r.subject).Scan(&receive, &send)
	if err != nil {
		t.Errorf("%+v: %v", r, err)
	}
	return receive, send
}

func (r ruling) check(t *testing.T, db *pgtest.DB) {
	t.Helper()
	if receive, send := r.decide(t, db); receive != r.receive || send != r.send {
		t.Errorf("%+v: receive %t, send %t", r, receive, send)
	}
}

// TestPolicySamples tries each sample alone. Without it nobody may do anything, but those who bypass policies; without one
// that only takes away, somebody may do more.
func TestPolicySamples(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil || len(files) != len(policySamples) {
		t.Fatalf("%d samples, %d with rulings; %v", len(files), len(policySamples), err)
	}
	for _, file := range files {
		name := path.Base(file)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := policySamples[name]
			if len(s.rulings) == 0 {
				t.Fatal("no rulings")
			}
			db := withChat(t)
			if s.beside != "" {
				applySample(t, db, s.beside)
			}
			for _, r := range s.rulings {
				if receive, send := r.decide(t, db); (receive || send) && s.beside == "" && r.role != "service_role" {
					t.Errorf("%+v: receive %t, send %t before there is a policy", r, receive, send)
				}
			}
			applySample(t, db, name)
			if _, err := db.Admin.Exec(t.Context(), s.rows); err != nil {
				t.Fatal(err)
			}
			for _, r := range s.rulings {
				r.check(t, db)
			}
			if s.beside != "" && !s.takesAway(t, db) {
				t.Error("it takes nothing away")
			}
		})
	}
}

// takesAway tells whether some ruling is a restrictive policy's doing.
func (s sample) takesAway(t *testing.T, db *pgtest.DB) bool {
	t.Helper()
	if _, err := db.Admin.Exec(t.Context(), `do $$ declare p record; begin
		for p in select policyname from pg_policies where tablename = 'messages' and permissive = 'RESTRICTIVE' loop
			execute format('drop policy %I on realtime.messages', p.policyname);
		end loop; end $$`); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(s.rulings, func(r ruling) bool {
		receive, send := r.decide(t, db)
		return receive && !r.receive || send && !r.send
	})
}

// TestPolicySamplesTogether applies all of them, in the order of dev: none may give what another withholds.
func TestPolicySamplesTogether(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	for name, s := range policySamples {
		if _, err := db.Admin.Exec(t.Context(), s.rows); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, s := range policySamples {
		for _, r := range s.rulings {
			r.check(t, db)
		}
	}
}

// TestPolicySamplesFollowTheTables changes what they depend on.
func TestPolicySamplesFollowTheTables(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	for _, step := range []struct {
		statement string
		want      ruling
	}{
		{"update members set muted = false where user_id = '" + carolID + "'", ruling{"authenticated", carolID, "room:1", "broadcast", true, true}},
		{"update members set muted = true where user_id = '" + bobID + "'", ruling{"authenticated", bobID, "room:1", "broadcast", true, false}},
		{"delete from members where user_id = '" + bobID + "'", ruling{"authenticated", bobID, "room:1", "broadcast", false, false}},
		{"select", ruling{"authenticated", bobID, "lobby", "broadcast", true, false}},
		{"delete from rooms where id = 2", ruling{"authenticated", aliceID, "room:2", "broadcast", false, false}},
	} {
		if _, err := db.Admin.Exec(t.Context(), step.statement); err != nil {
			t.Fatal(err)
		}
		step.want.check(t, db)
	}
}

// TestPolicySamplesBindRowAndTopic tries to write to one topic while another is asked about, as a role that may run SQL.
func TestPolicySamplesBindRowAndTopic(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	for topic, allowed := range map[string]bool{"room:1": true, "room:2": false} {
		tx, err := db.Admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), `select set_config('request.jwt.claims', '{"sub":"`+bobID+`","role":"authenticated"}', true),
			set_config('realtime.topic', 'room:1', true), set_config('role', 'authenticated', true)`)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), "insert into realtime.messages (topic, extension, event, payload, private) values ($1, 'broadcast', 'e', '{}', true)", topic)
		if allowed != (err == nil) {
			t.Errorf("%s: %v", topic, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPolicySamplesAreSound has the rules for policies applied to all of them: samples are copied.
func TestPolicySamplesAreSound(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	if got := runProgram(t, []string{"DATABASE_URL=" + db.URL}, "policy", "lint"); got.code != exitGood {
		t.Errorf("%+v", got)
	}
}
