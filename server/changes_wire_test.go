package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// tables counts those that tests have made, for their names.
var tables atomic.Int64

// follower is a client on a channel that asks for changes.
type follower struct {
	*client
	joinRef, topic string
	answer         json.RawMessage // to its join
}

// followAs joins a channel that has the name of a table and asks for all its changes.
func (r *running) followAs(version, tok, table string, more map[string]any) *follower {
	r.t.Helper()
	entry := map[string]any{"event": "*", "schema": "public", "table": table}
	for key, value := range more {
		entry[key] = value
	}
	c := r.dialVersion(version, tok)
	ref := c.push("", "realtime:"+table, "phx_join", map[string]any{"config": map[string]any{"postgres_changes": []any{entry}}})
	status, answer := c.reply(ref)
	if status != "ok" {
		r.t.Fatalf("%s: %s", table, answer)
	}
	return &follower{c, ref, table, answer}
}

// subscribed waits until it is said for the count-th time that changes are subscribed to.
func (f *follower) subscribed(count int) {
	f.t.Helper()
	seen := map[int]bool{}
	f.wait(fmt.Sprintf("to be subscribed %d times", count), func(m frame) bool {
		if isEvent(f.topic, "system")(m) && messageOf(m) == protocol.TextSubscribed {
			seen[m.receivedAfter] = true
		}
		return len(seen) >= count
	})
}

// troubled waits for a system message with a code, and gives it.
func (f *follower) troubled(code protocol.Code) string {
	f.t.Helper()
	return messageOf(f.wait("the word "+string(code), func(m frame) bool {
		_, is := textOf(code, inSystem, messageOf(m))
		return isEvent(f.topic, "system")(m) && is
	}))
}

// toldChange is what a client is told of a row.
type toldChange struct {
	IDs  []int
	Data struct {
		Type   string
		Record map[string]any
		Old    map[string]any `json:"old_record"`
	}
}

func changeOf(m frame) (c toldChange) {
	_ = json.Unmarshal(m.Payload, &c)
	return c
}

// toldOf waits for the insertion of the row with an id.
func (f *follower) toldOf(id int) frame {
	f.t.Helper()
	return f.wait(fmt.Sprintf("row %d", id), func(m frame) bool {
		return isEvent(f.topic, "postgres_changes")(m) && changeOf(m).Data.Record["id"] == float64(id)
	})
}

// ids are those of the rows that it was told were inserted, in this order.
func (f *follower) ids() (ids []int) {
	for _, m := range f.all() {
		if c := changeOf(m); isEvent(f.topic, "postgres_changes")(m) && c.Data.Type == "INSERT" {
			id, _ := c.Data.Record["id"].(float64)
			ids = append(ids, int(id))
		}
	}
	return ids
}

// What everything about changes looks like, to the letter.
func TestChangesToTheLetter(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), nil)
	names := regexp.MustCompile(`followed_\d+`)
	ids := regexp.MustCompile(`"id":\d{4,}|"ids":\[\d+(,\d+)*\]`)
	moments := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	for _, version := range versions {
		table := r.followed("id int primary key, n int8", "")
		f := r.followAs(version, token(t, "u1", "authenticated", nil), table, map[string]any{"filter": "n=gt.0", "select": []string{"n"}})
		f.subscribed(1)
		r.exec("insert into " + table + " values (1, 9007199254740993); update " + table + " set n = 2; delete from " + table + "; truncate " + table)
		f.wait("the end", func(m frame) bool { return strings.HasPrefix(messageOf(m), "TRUNCATE") })
		f.push(f.joinRef, "realtime:"+table, "phx_leave", map[string]any{})
		f.wait("the end", isEvent(table, "phx_close"))
		var got []string
		for _, m := range f.all() {
			text := fmt.Sprintf("%s %s %s %s", refText(m.JoinRef), refText(m.Ref), m.Event, m.Payload)
			text = moments.ReplaceAllString(ids.ReplaceAllStringFunc(names.ReplaceAllString(text, "t"), func(id string) string { return id[:strings.Index(id, ":")+1] + "…" }), "…")
			got = append(got, text)
		}
		join, none := "1", "-"
		if version == "1.0.0" {
			join = none
		}
		columns := `"columns":[{"name":"id","type":"int4"},{"name":"n","type":"int8"}]`
		want := []string{
			join + ` 1 phx_reply {"status":"ok","response":{"postgres_changes":[{"event":"*","filter":"n=gt.0","schema":"public","select":["n"],"table":"t","id":…}]}}`,
			join + ` - system {"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"t"}`,
			`- - postgres_changes {"ids":…,"data":{"schema":"public","table":"t","type":"INSERT","commit_timestamp":"…",` + columns + `,"record":{"id":1,"n":9007199254740993},"errors":null}}`,
			`- - postgres_changes {"ids":…,"data":{"schema":"public","table":"t","type":"UPDATE","commit_timestamp":"…",` + columns + `,"record":{"id":1,"n":2},"old_record":{"id":1,"n":9007199254740993},"errors":null}}`,
			`- - postgres_changes {"ids":…,"data":{"schema":"public","table":"t","type":"DELETE","commit_timestamp":"…",` + columns + `,"old_record":{"id":1,"n":2},"errors":null}}`,
			join + ` - system {"extension":"postgres_changes","status":"ok","message":"TRUNCATE public.t","channel":"t"}`,
			join + ` 2 phx_reply {"status":"ok","response":{}}`,
			join + ` 1 phx_close {}`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("on %s:\n%s\nwant\n%s", version, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func refText(ref *string) string {
	if ref == nil {
		return "-"
	}
	return *ref
}
