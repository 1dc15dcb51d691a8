package main

import (
	"context"
	"io/fs"
	"path"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

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

// ruling is what a policy must say about one person; an empty subject is a token without one.
type ruling struct {
	role, subject, topic, extension string
	receive, send                   bool
}

// policySamples is every file with what it must allow and deny. Members of room 1 are alice, bob and carol, who is muted;
// alice is a member of room 2 as well, and dave of nothing.
var policySamples = map[string][]ruling{
	"room_members.sql": {
		{"authenticated", aliceID, "room:1", "broadcast", true, true},
		{"authenticated", aliceID, "room:2", "broadcast", true, true},
		{"authenticated", bobID, "room:1", "presence", true, true},
		{"authenticated", bobID, "room:2", "broadcast", false, false},
		{"authenticated", carolID, "room:1", "broadcast", true, false},
		{"authenticated", carolID, "room:1", "presence", true, true},
		{"authenticated", daveID, "room:1", "broadcast", false, false},
		{"authenticated", "", "room:1", "broadcast", false, false},
		{"authenticated", "not a uuid", "room:1", "broadcast", false, false},
		{"anon", aliceID, "room:1", "broadcast", false, false},
		{"authenticated", aliceID, "room:01", "broadcast", false, false},
		{"authenticated", aliceID, "room:1 ", "broadcast", false, false},
		{"authenticated", aliceID, "room:1:x", "broadcast", false, false},
		{"authenticated", aliceID, "room:", "broadcast", false, false},
		{"authenticated", aliceID, "room:99999999999999999999", "broadcast", false, false},
		{"authenticated", aliceID, "rooms:1", "broadcast", false, false},
		{"authenticated", aliceID, "room:1", "postgres_changes", true, false},
		{"service_role", "", "room:1", "broadcast", true, true},
	},
	"public_lobby.sql": {
		{"authenticated", aliceID, "lobby", "broadcast", true, true},
		{"authenticated", daveID, "lobby", "broadcast", true, false},
		{"authenticated", aliceID, "lobby2", "broadcast", false, false},
		{"anon", "", "lobby", "broadcast", false, false},
	},
	"announcements.sql": {
		{"anon", "", "announcements", "broadcast", true, false},
		{"authenticated", aliceID, "announcements", "broadcast", true, false},
		{"authenticated", aliceID, "announcements", "presence", false, false},
		{"authenticated", aliceID, "announcement", "broadcast", false, false},
		{"service_role", "", "announcements", "broadcast", true, true},
	},
	"presence_only.sql": {
		{"authenticated", daveID, "online", "presence", true, true},
		{"authenticated", daveID, "online", "broadcast", false, false},
		{"anon", "", "online", "presence", false, false},
		{"authenticated", daveID, "offline", "presence", false, false},
	},
	"own_channel.sql": {
		{"authenticated", aliceID, "user:" + aliceID, "broadcast", true, false},
		{"authenticated", bobID, "user:" + aliceID, "broadcast", false, false},
		{"authenticated", "", "user:", "broadcast", false, false},
		{"authenticated", aliceID, "user:A11CE000-0000-4000-8000-000000000001", "broadcast", false, false},
		{"authenticated", aliceID, "user:" + aliceID, "presence", false, false},
		{"anon", aliceID, "user:" + aliceID, "broadcast", false, false},
	},
}

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

func (r ruling) check(ctx context.Context, t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	var receive, send bool
	err := pool.QueryRow(ctx, `
		with c as (select jsonb_strip_nulls(jsonb_build_object('role', $3::text, 'sub', nullif($4, ''))) as claims)
		select realtime.can('receive', $1, $2, claims), realtime.can('send', $1, $2, claims) from c`,
		r.topic, r.extension, r.role, r.subject).Scan(&receive, &send)
	if err != nil {
		t.Errorf("%+v: %v", r, err)
	} else if receive != r.receive || send != r.send {
		t.Errorf("%+v: receive %t, send %t", r, receive, send)
	}
}

// TestPolicySamples tries each sample alone: before it is applied nobody may do anything, but those who bypass policies.
func TestPolicySamples(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil || len(files) != len(policySamples) {
		t.Fatalf("%d samples, %d with rulings; %v", len(files), len(policySamples), err)
	}
	for _, file := range files {
		t.Run(path.Base(file), func(t *testing.T) {
			t.Parallel()
			db := withChat(t)
			text, err := fs.ReadFile(sql.Policies, file)
			if err != nil {
				t.Fatal(err)
			}
			rulings := policySamples[path.Base(file)]
			if len(rulings) == 0 {
				t.Fatal("no rulings")
			}
			for _, r := range rulings {
				if r.role != "service_role" {
					r.receive, r.send = false, false
				}
				r.check(t.Context(), t, db.Admin)
			}
			if _, err := db.Admin.Exec(t.Context(), string(text)); err != nil {
				t.Fatal(err)
			}
			for _, r := range rulings {
				r.check(t.Context(), t, db.Admin)
			}
		})
	}
}

// TestPolicySamplesTogether applies all of them, in the order of dev: none may give what another withholds.
func TestPolicySamplesTogether(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	for _, rulings := range policySamples {
		for _, r := range rulings {
			r.check(t.Context(), t, db.Admin)
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
		step.want.check(t.Context(), t, db.Admin)
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
