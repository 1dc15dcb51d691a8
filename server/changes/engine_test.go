package changes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// theater is a stage with an engine at work.
type theater struct {
	*stage
	engine *Engine
	stop   func()
}

func newTheater(t *testing.T, change func(*Options), statements ...string) *theater {
	t.Helper()
	return newTheaterOn(newStage(t, append([]string{"create publication supabase_realtime"}, statements...)...), change)
}

func newTheaterOn(s *stage, change func(*Options)) *theater {
	level := slog.LevelError
	if os.Getenv("CHANGES_LOG") != "" {
		level = slog.LevelDebug
	}
	o := Options{
		Pool: s.pool, URL: s.db.URL, Publication: "supabase_realtime", MaxRow: 1 << 20, MaxSnapshotRows: 1000, BypassRoles: []string{"service_role"},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), Metrics: metrics.New(),
	}
	if change != nil {
		change(&o)
	}
	return startTheater(s, o)
}

// startTheater has another engine on the same stage.
func startTheater(s *stage, o Options) *theater {
	t := s.TB
	th := &theater{stage: s, engine: New(o)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := th.engine.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	th.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(th.stop)
	return th
}

// spectator writes down what a subscription is told.
type spectator struct {
	t   testing.TB
	sub *Subscription

	mu       sync.Mutex // guards those below
	told     []string   // notices begin with + or -
	raw      []string
	more     chan struct{}
	full     bool // it does not read
	waits    bool // it is about waiting for a slot; in most tests that is others' transactions
	draining []func()
}

func (s *spectator) say(text, raw string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.raw = append(s.told, text), append(s.raw, raw)
	signal(s.more)
}

func (s *spectator) Deliver(f *protocol.Frame) Outlet {
	raw := string(f.Bytes(protocol.V2))
	raw = raw[strings.Index(raw, "[null"):] // without its header
	s.say(brief(s.t, raw), raw)
	return s
}

func (s *spectator) Flush() {}

func (s *spectator) Notice(code protocol.Code, text string) {
	if text == protocol.TextChangesSlotWaits && !s.waits {
		return
	}
	if code == "" {
		s.say("+"+text, "")
	} else {
		s.say("-"+text, "")
	}
}

func (s *spectator) Drained(then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		s.draining = append(s.draining, then)
		return
	}
	then()
}

// brief is a frame for people: ids, what was done, the new row, the old row, errors.
func brief(t testing.TB, raw string) string {
	t.Helper()
	var frame []json.RawMessage
	var payload struct {
		IDs  []int
		Data struct {
			Schema, Table, Type string
			Record, OldRecord   json.RawMessage
			Old                 json.RawMessage `json:"old_record"`
			Errors              []string
		}
	}
	if err := json.Unmarshal([]byte(raw), &frame); err != nil {
		t.Errorf("%s: %v", raw, err)
		return raw
	}
	if err := json.Unmarshal(frame[4], &payload); err != nil {
		t.Errorf("%s: %v", frame[4], err)
	}
	d := payload.Data
	parts := []string{fmt.Sprint(payload.IDs), d.Type, d.Table}
	if d.Record != nil {
		parts = append(parts, string(d.Record))
	}
	if d.Old != nil {
		parts = append(parts, "was", string(d.Old))
	}
	if d.Errors != nil {
		parts = append(parts, fmt.Sprint(d.Errors))
	}
	return strings.Join(parts, " ")
}

// entries reads them as a join has them; their ids are 1, 2, …
func entries(t testing.TB, texts ...string) []Entry {
	t.Helper()
	var raw [][]byte
	var ids []int
	for i, text := range texts {
		raw, ids = append(raw, []byte(text)), append(ids, i+1)
	}
	parsed, err := ParseEntries(raw, ids)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// seat subscribes somebody.
func (th *theater) seat(who Group, texts ...string) *spectator {
	th.Helper()
	return th.seatAs(&spectator{}, who, texts...)
}

func (th *theater) seatAs(s *spectator, who Group, texts ...string) *spectator {
	s.t, s.more = th.TB, make(chan struct{}, 1)
	s.sub = th.engine.Subscribe(Subscriber{Topic: "realtime:room", Role: who.Role, Claims: who.Claims, Entries: entries(th.TB, texts...), Member: s})
	return s
}

// subscribed is a seat that is told of changes.
func (th *theater) subscribed(who Group, texts ...string) *spectator {
	th.Helper()
	s := th.seat(who, texts...)
	s.expect("+Subscribed to PostgreSQL")
	return s
}

// await waits until something has been told that ends with this, and gives all up to it.
func (s *spectator) await(last string) []string {
	s.t.Helper()
	limit := time.After(askPatience)
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.told, func(told string) bool { return strings.Contains(told, last) })
		if i >= 0 {
			told := slices.Clone(s.told[:i+1])
			s.told, s.raw = s.told[i+1:], s.raw[i+1:]
			s.mu.Unlock()
			return told
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-limit:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("not told %q, but:\n%s", last, strings.Join(s.told, "\n"))
		}
	}
}

// expect waits for the last of these and compares all that was told by then.
func (s *spectator) expect(want ...string) {
	s.t.Helper()
	got := s.await(want[len(want)-1])
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Error(diff)
	}
}

var service = Group{"service_role", []byte(`{"role":"service_role"}`)}

const all = `{"event":"*","schema":"public","table":"notes"}`

// notes is a table whose rows their owners see.
const notes = `
	create table notes (id int primary key, owner uuid, body text);
	alter table notes enable row level security;
	create policy own on notes for select using (owner = auth.uid());
	grant select on notes to authenticated, anon, service_role;
	alter publication supabase_realtime add table notes`

func TestChangesReachThoseWhoMaySeeTheRow(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	ann, bob, root := th.subscribed(user(annID), all), th.subscribed(user(bobID), all), th.subscribed(service, all)
	th.exec("insert into notes values (1, '" + annID + "', 'a'), (2, '" + bobID + "', 'b')")
	ann.expect(`[1] INSERT notes {"id":1,"owner":"` + annID + `","body":"a"}`)
	bob.expect(`[1] INSERT notes {"id":2,"owner":"` + bobID + `","body":"b"}`)
	th.exec("update notes set body = body || '!'")
	ann.expect(`[1] UPDATE notes {"id":1,"owner":"` + annID + `","body":"a!"} was {"id":1}`)
	bob.expect(`[1] UPDATE notes {"id":2,"owner":"` + bobID + `","body":"b!"} was {"id":2}`)
	th.exec("update notes set owner = '" + bobID + "'") // ann's row is bob's from now on
	bob.expect(
		`[1] UPDATE notes {"id":1,"owner":"`+bobID+`","body":"a!"} was {"id":1}`,
		`[1] UPDATE notes {"id":2,"owner":"`+bobID+`","body":"b!"} was {"id":2}`)
	th.exec("delete from notes")
	bob.expect(`[1] DELETE notes was {"id":1}`, `[1] DELETE notes was {"id":2}`)
	th.exec("insert into notes values (3, '" + annID + "', 'end')")
	ann.expect(`[1] INSERT notes {"id":3,"owner":"` + annID + `","body":"end"}`)
	root.expect(
		`[1] INSERT notes {"id":1,"owner":"`+annID+`","body":"a"}`,
		`[1] INSERT notes {"id":2,"owner":"`+bobID+`","body":"b"}`,
		`[1] UPDATE notes {"id":1,"owner":"`+annID+`","body":"a!"} was {"id":1}`,
		`[1] UPDATE notes {"id":2,"owner":"`+bobID+`","body":"b!"} was {"id":2}`,
		`[1] UPDATE notes {"id":1,"owner":"`+bobID+`","body":"a!"} was {"id":1}`,
		`[1] UPDATE notes {"id":2,"owner":"`+bobID+`","body":"b!"} was {"id":2}`,
		`[1] DELETE notes was {"id":1}`,
		`[1] DELETE notes was {"id":2}`,
		`[1] INSERT notes {"id":3,"owner":"`+annID+`","body":"end"}`)
}

// What a row was for a moment is no business of those who may see what it is now: policies were not asked about it.
func TestVersionsThatPoliciesWereNotAskedAboutAreNotShown(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes)
	ann, bob, root := th.subscribed(user(annID), all), th.subscribed(user(bobID), all), th.subscribed(service, all)
	th.exec("insert into notes values (1, '" + bobID + "', 'his secret'); update notes set owner = '" + annID + "', body = 'a gift'; update notes set body = 'unpacked'")
	ann.expect(
		`[1] UPDATE notes {"id":1,"owner":"`+annID+`","body":"a gift"} was {"id":1}`,
		`[1] UPDATE notes {"id":1,"owner":"`+annID+`","body":"unpacked"} was {"id":1}`)
	root.expect(
		`[1] INSERT notes {"id":1,"owner":"`+bobID+`","body":"his secret"}`,
		`[1] UPDATE notes {"id":1,"owner":"`+annID+`","body":"a gift"} was {"id":1}`,
		`[1] UPDATE notes {"id":1,"owner":"`+annID+`","body":"unpacked"} was {"id":1}`)
	th.exec("insert into notes values (2, '" + bobID + "', 'end')")
	bob.expect(`[1] INSERT notes {"id":2,"owner":"` + bobID + `","body":"end"}`)
}

// With the whole old row in the WAL, it is shown to those who could see just this row.
func TestOldRowsAreShownToThoseWhoCouldSeeThem(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, "alter table notes replica identity full")
	ann, bob, root := th.subscribed(user(annID), all), th.subscribed(user(bobID), all), th.subscribed(service, all)
	th.exec("insert into notes values (1, '" + annID + "', 'a')")
	ann.expect(`[1] INSERT notes {"id":1,"owner":"` + annID + `","body":"a"}`)
	th.exec("update notes set body = 'b'")
	ann.expect(`[1] UPDATE notes {"id":1,"owner":"` + annID + `","body":"b"} was {"id":1,"owner":"` + annID + `","body":"a"}`)
	th.exec("update notes set owner = '" + bobID + "'") // he sees it now, and did not
	bob.expect(`[1] UPDATE notes {"id":1,"owner":"` + bobID + `","body":"b"} was {"id":1}`)
	th.exec("update notes set id = 2, owner = '" + annID + "'")
	ann.expect(`[1] UPDATE notes {"id":2,"owner":"` + annID + `","body":"b"} was {}`)
	th.exec("delete from notes")
	ann.expect(`[1] DELETE notes was {"id":2,"owner":"` + annID + `","body":"b"}`)
	root.await("DELETE")
}

// until waits until a question is answered with yes.
func (th *theater) until(question string) {
	th.Helper()
	for limit := time.Now().Add(askPatience); ; time.Sleep(5 * time.Millisecond) {
		var yes bool
		if err := th.admin.QueryRow(th.Context(), question).Scan(&yes); err != nil {
			th.Fatal(err)
		}
		if yes {
			return
		}
		if time.Now().After(limit) {
			th.Fatalf("never: %s", question)
		}
	}
}
