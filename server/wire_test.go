package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/auth"
	"rowcast/server/feed"
	"rowcast/server/pgtest"
)

const (
	testSecret = "a secret that is long enough for tests"
	// patience bounds every wait for something that must happen; it is no measure of speed.
	patience = time.Minute
)

// running is a server in this process on a database of its own.
type running struct {
	*instance
	t    testing.TB
	db   *pgtest.DB
	stop func() // as SIGTERM does; the test's end does it otherwise
}

// start runs a server as the ordinary role and waits until it is ready.
func start(t testing.TB, db *pgtest.DB, change func(*Config)) *running {
	t.Helper()
	return startVia(t, db, change, func(s feed.Sink) feed.Sink { return s })
}

func startVia(t testing.TB, db *pgtest.DB, change func(*Config), via func(feed.Sink) feed.Sink) *running {
	t.Helper()
	return startWith(t, db, change, seams{sink: via, rights: func(r auth.Rights) auth.Rights { return r }})
}

func startWith(t testing.TB, db *pgtest.DB, change func(*Config), via seams) *running {
	t.Helper()
	r := launch(t, db, newTestInstanceWith(t, db, change, via))
	r.awaitReady()
	return r
}

// newTestInstance prepares a server on free ports of the loopback.
func newTestInstance(t testing.TB, db *pgtest.DB, change func(*Config), via func(feed.Sink) feed.Sink) *instance {
	t.Helper()
	return newTestInstanceWith(t, db, change, seams{sink: via, rights: func(r auth.Rights) auth.Rights { return r }})
}

func newTestInstanceWith(t testing.TB, db *pgtest.DB, change func(*Config), via seams) *instance {
	t.Helper()
	c := testConfig(db)
	if change != nil {
		change(&c)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: max(slog.LevelWarn, c.LogLevel)}))
	in, err := newInstanceVia(context.Background(), c, logger, via)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// testConfig is the default, on a database of a test.
func testConfig(db *pgtest.DB) Config {
	c := defaultConfig()
	c.DatabaseURL, c.ListenDatabaseURL = db.PoolURL, db.URL
	c.FeedSource = "notify" // a slot waits for every transaction in the cluster, other tests' too; what is about the source says so
	c.JWTSecret, c.Addr, c.AdminAddr = testSecret, "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// launch runs a server that may never be ready.
func launch(t testing.TB, db *pgtest.DB, in *instance) *running {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return &running{in, t, db, cancel}
}

func (r *running) awaitReady() {
	r.t.Helper()
	r.await("the server to be ready", func() bool {
		ready, _ := r.health.Answer(context.Background())
		return ready
	})
}

// await asks until something holds. For what announces itself, wait for that instead.
func (r *running) await(what string, holds func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// exec runs SQL as a superuser.
func (r *running) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.db.Admin.Exec(context.Background(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// scalar reads what is one row of one column, as a superuser.
func scalar[T any](t testing.TB, db *pgtest.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.Admin.QueryRow(context.Background(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// token is one of a user.
func token(t testing.TB, subject, role string, claims map[string]any) string {
	t.Helper()
	signed, err := auth.Mint([]byte(testSecret), auth.MintOptions{Subject: subject, Role: role, TTL: time.Hour, Claims: claims})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// frame is what a client of wire version 2.0.0 hears; binary frames are turned into their text form.
type frame struct {
	JoinRef, Ref  *string
	Topic, Event  string
	Payload       json.RawMessage
	receivedAfter int // frames before it on its socket
}

// versions are the wire versions that every test of what clients may see should hold for.
var versions = []string{"1.0.0", "2.0.0"}

// client is a raw WebSocket, of wire version 2.0.0 unless it was dialled with another.
type client struct {
	t       testing.TB
	conn    *websocket.Conn
	version string

	mu     sync.Mutex // guards all below
	frames []frame
	change chan struct{} // closed and made anew whenever frames grow
	err    error
	ref    int
}

func (r *running) dial(tok string) *client {
	r.t.Helper()
	return dial(r.t, r.public.Addr().String(), tok)
}

// dialVersion is dial in one of versions.
func (r *running) dialVersion(version, tok string) *client {
	r.t.Helper()
	return dialVersion(r.t, r.public.Addr().String(), version, tok)
}

func dial(t testing.TB, address, tok string) *client {
	t.Helper()
	return dialVersion(t, address, "2.0.0", tok)
}

func dialVersion(t testing.TB, address, version, tok string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url := "ws://" + address + "/socket/websocket?vsn=" + version + "&apikey=" + tok
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: http.Header{"X-Test": {"yes"}}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(16 << 20)
	c := &client{t: t, conn: conn, version: version, change: make(chan struct{})}
	done := make(chan struct{})
	go func() { defer close(done); c.read() }()
	t.Cleanup(func() { conn.CloseNow(); <-done })
	return c
}

func (c *client) read() {
	for {
		kind, data, err := c.conn.Read(context.Background())
		var f frame
		if err == nil {
			f, err = parseFrame(c.version, kind == websocket.MessageBinary, data)
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
		} else {
			f.receivedAfter = len(c.frames)
			c.frames = append(c.frames, f)
		}
		close(c.change)
		c.change = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// parseFrame reads the object of version 1.0.0, or an array of five, or a binary broadcast of kind 4.
func parseFrame(version string, binary bool, data []byte) (frame, error) {
	var f frame
	if version == "1.0.0" {
		var known struct {
			Topic, Event string
			Ref          *string
			Payload      json.RawMessage
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields() // a server's frames never hold a join_ref
		err := decoder.Decode(&known)
		if err == nil && binary {
			err = errors.New("a binary frame on version 1.0.0")
		}
		return frame{Ref: known.Ref, Topic: known.Topic, Event: known.Event, Payload: known.Payload}, err
	}
	if !binary {
		return f, json.Unmarshal(data, &[]any{&f.JoinRef, &f.Ref, &f.Topic, &f.Event, &f.Payload})
	}
	if len(data) < 5 || data[0] != 4 {
		return f, fmt.Errorf("unexpected binary frame %x", data)
	}
	t, e, m := int(data[1]), int(data[2]), int(data[3])
	rest := data[5:]
	f.Topic, f.Event = string(rest[:t]), "broadcast"
	payload := map[string]any{"type": "broadcast", "event": string(rest[t : t+e]), "payload": json.RawMessage(rest[t+e+m:])}
	if data[4] == 0 {
		payload["payload"] = rest[t+e+m:]
	}
	if m > 0 {
		payload["meta"] = json.RawMessage(rest[t+e : t+e+m])
	}
	var err error
	f.Payload, err = json.Marshal(payload)
	return f, err
}

// push sends one message and returns its ref.
func (c *client) push(joinRef, topic, event string, payload any) string {
	c.mu.Lock()
	c.ref++
	ref := strconv.Itoa(c.ref)
	c.mu.Unlock()
	if event == "phx_join" {
		joinRef = ref
	}
	var data []byte
	var err error
	if c.version == "1.0.0" {
		data, err = json.Marshal(map[string]any{"join_ref": joinRef, "ref": ref, "topic": topic, "event": event, "payload": payload})
	} else {
		data, err = json.Marshal([]any{joinRef, ref, topic, event, payload})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Write(context.Background(), websocket.MessageText, data); err != nil && !errors.Is(err, context.Canceled) {
		c.t.Logf("push: %v", err)
	}
	return ref
}

// wait gives the first frame that matches, from the beginning; it fails the test when none comes.
func (c *client) wait(what string, match func(frame) bool) frame {
	c.t.Helper()
	deadline := time.After(patience)
	for from := 0; ; {
		c.mu.Lock()
		frames, change, err := c.frames, c.change, c.err
		c.mu.Unlock()
		for ; from < len(frames); from++ {
			if match(frames[from]) {
				return frames[from]
			}
		}
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
		select {
		case <-change:
		case <-deadline:
			c.t.Fatalf("waited in vain for %s; heard %s", what, c.said())
		}
	}
}

func (c *client) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := ""
	for _, f := range c.frames {
		text += fmt.Sprintf("\n%s %s %s", f.Topic, f.Event, f.Payload)
	}
	return text
}

// all is a copy of what was heard.
func (c *client) all() []frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]frame(nil), c.frames...)
}

// reply waits for the answer to a push.
func (c *client) reply(ref string) (status string, response json.RawMessage) {
	c.t.Helper()
	f := c.wait("the reply to "+ref, func(f frame) bool { return f.Event == "phx_reply" && f.Ref != nil && *f.Ref == ref })
	var answer struct {
		Status   string
		Response json.RawMessage
	}
	if err := json.Unmarshal(f.Payload, &answer); err != nil {
		c.t.Fatal(err)
	}
	return answer.Status, answer.Response
}

// join joins and returns the join ref, the reply's status and its reason.
func (c *client) join(name string, config map[string]any) (joinRef, status, reason string) {
	c.t.Helper()
	ref := c.push("", "realtime:"+name, "phx_join", map[string]any{"config": config})
	status, response := c.reply(ref)
	var told struct{ Reason string }
	_ = json.Unmarshal(response, &told)
	return ref, status, told.Reason
}

// private is the config of a private channel that wants its broadcasts answered.
func private() map[string]any {
	return map[string]any{"private": true, "broadcast": map[string]any{"ack": true, "self": true}}
}

func isEvent(topic, event string) func(frame) bool {
	return func(f frame) bool { return f.Topic == "realtime:"+topic && f.Event == event }
}

// broadcastOf matches a broadcast of one event.
func broadcastOf(topic, event string) func(frame) bool {
	return func(f frame) bool {
		var p struct{ Event string }
		return isEvent(topic, "broadcast")(f) && json.Unmarshal(f.Payload, &p) == nil && p.Event == event
	}
}
