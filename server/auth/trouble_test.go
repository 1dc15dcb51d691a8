package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
)

// What says nothing about a policy is no denial; what a policy does of itself is one.
func TestTroubleIsNoDenial(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `
		create function trouble(code text) returns boolean language plpgsql as $$ begin
			raise exception using errcode = code, message = 'trouble';
		end $$;
		create policy r on realtime.messages for select to authenticated using (trouble((select realtime.topic())));
		create policy s on realtime.messages for insert to authenticated with check (true)`)
	trouble := []string{"40001", "40P01", "53100", "53200", "55P03", "57014", "57P03", "58030", "25006", "XX000"}
	denials := []string{"P0001", "42501", "22012", "42P01", "23505"}
	var requests []auth.Request
	for _, code := range append(trouble, denials...) {
		requests = append(requests, request(code, "1"))
	}
	for i, a := range ask(t, decider(t, db), requests...) {
		code := requests[i].Topic
		if wantErr := i < len(trouble); wantErr != (a.Err != nil) || !wantErr && a.Code != code || a.Broadcast.Receive {
			t.Errorf("%s: %+v", code, a)
		}
	}
}

// A lock on what the policies of some topics read holds up nobody else, and these only until it is gone.
func TestLocksHoldUpWhoNeedsThem(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `
		create table busy (n int); insert into busy values (1); grant select on busy to authenticated;
		create function may(topic text) returns boolean language plpgsql as $$ begin
			if topic like 'busy%' then return exists (select from public.busy); end if;
			return true;
		end $$;
		create policy r on realtime.messages for select to authenticated using (may((select realtime.topic())));
		create policy s on realtime.messages for insert to authenticated with check (true)`)
	d := decider(t, db)
	tx, err := db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `lock table busy`); err != nil {
		t.Fatal(err)
	}
	var requests []auth.Request
	for range 30 {
		requests = append(requests, request("busy-1", "1"), request("free", "1"))
	}
	for i, a := range ask(t, d, requests...) {
		if free := requests[i].Topic == "free"; free != (a.Err == nil) || free != a.Broadcast.Receive {
			t.Errorf("%s: %+v", requests[i].Topic, a)
		}
	}
	answered := make(chan auth.Answer, 2)
	d.Ask(request("busy-2", "1"), func(a auth.Answer) { answered <- a })
	old := request("busy-2", "1")
	old.Since = time.Now().Add(-time.Minute)
	d.Ask(old, func(a auth.Answer) { answered <- a })
	if a := <-answered; a.Err == nil { // without being asked
		t.Errorf("somebody who has waited too long: %+v", a)
	}
	for waiting := 0; waiting == 0; {
		if err := tx.QueryRow(t.Context(), `select count(*) from pg_locks where not granted and relation = 'busy'::regclass`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.Err != nil || !a.Broadcast.Receive {
		t.Errorf("when the lock is gone: %+v", a)
	}
}

// A policy that would write to find out cannot be asked in a read-only database, nor can any other.
func TestReadOnlyDatabaseDeniesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db.Admin, `create policy r on realtime.messages for select to authenticated using (true);
		create policy s on realtime.messages for insert to authenticated with check (true)`)
	exec(t, db.Admin, `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	if a := ask(t, decider(t, db), request("a", "1"))[0]; a.Err == nil || !strings.Contains(a.Err.Error(), "25006") || a.Broadcast.Receive {
		t.Errorf("%+v", a)
	}
}
