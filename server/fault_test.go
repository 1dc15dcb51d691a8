package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// What can go wrong with the database, each on a cluster of its own. docs/operating.md tells operators the same.

const (
	// clientTimeout is after how long the official client gives a join up.
	clientTimeout = 10 * time.Second
	// testDeafAfter is the shortest that may be set.
	testDeafAfter = minDeafAfter
)

// faulted is a server with people on it who have seen better days: u1 and u2 are on the private channel a and on the
// public channel open. Something happens to the database, u2's right is taken away, and when it is over u1 goes on as if
// nothing had been.
type faulted struct {
	*running
	t            *testing.T
	cluster      *pgtest.Cluster
	stays, goes  *client
	private, all string   // join refs of stays
	said         int      // broadcasts so far
	found        string   // what readyz last said
	forbidden    []string // events that were broadcast to a when u2 had lost the right; nil before
}

// startFaulted needs a database of the cluster; change may lead the server to it in another way.
func startFaulted(t *testing.T, cluster *pgtest.Cluster, db *pgtest.DB, change func(*Config)) *faulted {
	t.Helper()
	f := &faulted{t: t, cluster: cluster}
	f.running = start(t, db, func(c *Config) {
		c.DeafAfter, c.MaxDeaf = testDeafAfter, 10*patience
		if change != nil {
			change(c)
		}
	})
	f.sql(allowMembers + `insert into members values ('u1', 'a'), ('u2', 'a')`)
	f.stays, f.goes = f.dial(token(t, "u1", "authenticated", nil)), f.dial(token(t, "u2", "authenticated", nil))
	for _, c := range []*client{f.stays, f.goes} {
		private, status, reason := c.join("a", private())
		if status != "ok" {
			t.Fatal(reason)
		}
		all, status, reason := c.join("open", map[string]any{"broadcast": map[string]any{"self": true}})
		if status != "ok" {
			t.Fatal(reason)
		}
		if c == f.stays {
			f.private, f.all = private, all
		}
	}
	f.sql(`select realtime.send('{}', 'before', 'a')`)
	f.goes.wait("a message before the fault", broadcastOf("a", "before"))
	return f
}

// startFaultedAlone starts on a cluster of its own, led to it by its socket.
func startFaultedAlone(t *testing.T, o pgtest.Options) *faulted {
	t.Helper()
	cluster := pgtest.NewCluster(t, o)
	return startFaulted(t, cluster, cluster.DB(t), nil)
}

// sql runs statements as a superuser on a new connection, again and again until the database lets it, whatever is the
// matter with it. They must bear to be repeated.
func (f *faulted) sql(statements string) {
	f.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f.try(statements); err == nil {
			return
		}
	}
	f.t.Fatalf("%s: %v", statements, err)
}

func (f *faulted) try(statements string) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.db.AdminURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statements)
	return err
}

// backends are those of the server that match a condition.
func (f *faulted) backends(condition string) (pids []int) {
	f.t.Helper()
	rows, err := f.db.Admin.Query(f.t.Context(), `select pid from pg_stat_activity where usename = 'rowcast' and datname = current_database() and `+condition)
	if err == nil {
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return pids
}

const isListener = `application_name = 'rowcast listener'`

// revoke takes u2's right away and says something that is not for u2 any more, in one transaction.
func (f *faulted) revoke() {
	f.t.Helper()
	f.sql(`delete from members where user_id = 'u2'; select realtime.send('{}', 'secret', 'a')`)
	f.forbidden = []string{"secret"}
}

// awaitDeaf waits until nothing private is delivered, and the metrics say so.
func (f *faulted) awaitDeaf() {
	f.t.Helper()
	f.await("the server to be deaf", func() bool { return !f.feed.Hearing() && counter(f.t, f.running, "realtime_feed_hearing") == 0 })
}

// awaitFinding waits until /readyz names a text among its findings.
func (f *faulted) awaitFinding(check string, texts ...string) {
	f.t.Helper()
	f.await(fmt.Sprintf("readyz to find %q", texts), func() bool { return f.finds(check, texts...) })
}

// finds tells whether /readyz names a text among its findings.
func (f *faulted) finds(check string, texts ...string) bool {
	f.t.Helper()
	code, body := get(f.t, "http://"+f.admin.Addr().String()+"/readyz")
	var answer struct{ Checks map[string]string }
	if code != http.StatusServiceUnavailable || json.Unmarshal([]byte(body), &answer) != nil {
		return false
	}
	said := answer.Checks[check]
	if said != f.found {
		f.found = said
		f.t.Logf("readyz: %s: %s", check, said)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(said, text) })
}

// publicGoesOn checks that the sockets are still there, and that what is public is delivered.
func (f *faulted) publicGoesOn() {
	f.t.Helper()
	f.goes.wait("a public broadcast", broadcastOf("open", f.say(f.stays, "open", f.all)))
}

// say broadcasts to a channel and gives the event.
func (f *faulted) say(c *client, topic, joinRef string) (event string) {
	f.said++
	event = fmt.Sprint("said-", f.said)
	if topic == "a" && f.forbidden != nil {
		f.forbidden = append(f.forbidden, event)
	}
	c.push(joinRef, "realtime:"+topic, "broadcast", map[string]any{"type": "broadcast", "event": event, "payload": map[string]any{}})
	return event
}

// joinsArePutOff checks that somebody who has every right is told, while the client still waits, to try again.
func (f *faulted) joinsArePutOff() {
	f.t.Helper()
	f.isPutOff("a")
}

func (f *faulted) isPutOff(topic string) {
	f.t.Helper()
	c := f.dial(token(f.t, "u1", "authenticated", nil))
	began := time.Now()
	_, status, reason := c.join(topic, private())
	if took := time.Since(began); took > clientTimeout {
		f.t.Errorf("the join was answered after %s, when its client had given it up", took)
	}
	if status != "error" || !strings.HasPrefix(reason, "Deaf: ") && !strings.HasPrefix(reason, "UnableToConnectToProject: ") {
		f.t.Errorf("private join: %s %s", status, reason)
	}
}

// heals checks that everything goes on by itself: readyz, the sessions that there were, and joins; and that whoever lost
// the right meanwhile has been given nothing.
func (f *faulted) heals() {
	f.t.Helper()
	f.awaitReady()
	f.goes.wait("the cut", isEvent("a", "phx_close"))
	f.sendsAgain()
	f.stays.wait("a broadcast on the session that there was", broadcastOf("a", f.say(f.stays, "a", f.private)))
	f.joins("u1")
	if n := count(f.stays, isEvent("a", "phx_close")) + count(f.stays, isEvent("a", "phx_error")); n != 0 {
		f.t.Errorf("the session that there was has been closed: %s", f.stays.said())
	}
	for _, event := range f.forbidden {
		if count(f.goes, broadcastOf("a", event)) != 0 {
			f.t.Errorf("who lost the right was given %s", event)
		}
	}
}

// sendsAgain sends from SQL until something arrives on the session that there was. What was sent around the fault may be
// withheld, and that is said.
func (f *faulted) sendsAgain() {
	f.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var sent []string
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		f.said++
		event := fmt.Sprint("after-", f.said)
		sent = append(sent, event)
		if f.forbidden != nil {
			f.forbidden = append(f.forbidden, event)
		}
		f.sql(`select realtime.send('{}', '` + event + `', 'a')`)
		for _, event := range sent {
			if count(f.stays, broadcastOf("a", event)) > 0 {
				return
			}
		}
	}
	f.t.Fatalf("nothing arrives on the session that there was; it heard %s", f.stays.said())
}

// joins waits until a private join succeeds, as a client does that tries again.
func (f *faulted) joins(user string) {
	f.t.Helper()
	c := f.dial(token(f.t, user, "authenticated", nil))
	f.await("a private join", func() bool { _, status, _ := c.join("a", private()); return status == "ok" })
}
