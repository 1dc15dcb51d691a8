package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

const (
	// resumeMessages are sent in TestResumeAcrossKilledServers; RESUME_MESSAGES is another number.
	resumeMessages = 2000
	resumeRooms    = 10
	resumeClients  = 200
	resumeWriters  = 6
	resumeKills    = 4
	cursorLength   = 200
)

// Servers are killed and started while writers send, in transactions of one message, of several, and in long ones. Clients
// that go on after what they received get every message once.
func TestResumeAcrossKilledServers(t *testing.T) {
	t.Parallel()
	total := resumeMessages
	if n, err := strconv.Atoi(os.Getenv("RESUME_MESSAGES")); err == nil {
		total = n
	}
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), fmt.Sprintf(allowMembers+`insert into members select 'u', 'r' || i from generate_series(1, %d) as i`, resumeRooms)); err != nil {
		t.Fatal(err)
	}
	s := startSeparate(t, db)
	e := &resumption{t: t, db: db, began: time.Now().UnixMilli(), tickets: make(chan struct{}, total)}
	e.up.L, e.progress.L = &e.mu, &e.mu
	e.address = s.public
	var clients []*resumer
	var receiving, writing sync.WaitGroup
	for i := range resumeClients {
		c := &resumer{resumption: e, room: i % resumeRooms, version: versions[i/resumeRooms%2], got: map[int]int{}, cursor: []string{}}
		clients = append(clients, c)
		receiving.Go(c.run)
	}
	for i := range resumeWriters {
		writing.Go(func() { e.write(rand.New(rand.NewPCG(uint64(i), uint64(total)))) })
	}
	phase := total / resumeKills / 3
	for kill := range resumeKills {
		e.awaitJoins(resumeClients * [...]int{100, 50, 10, 90}[kill%4] / 100) // some are killed before they are back
		e.issue(phase)                                                        // while the server runs: it is killed in the middle
		e.await(e.issued - phase/2)
		if err := s.process.Kill(); err != nil {
			t.Fatal(err)
		}
		e.issue(phase) // while none does
		e.await(e.issued - resumeWriters*maxSends)
		s = startSeparate(t, db)
		e.serve(s.public)
		e.issue(phase) // while clients come back
		e.await(e.issued - resumeWriters*maxSends)
	}
	e.issue(total - e.issued)
	close(e.tickets)
	writing.Wait()
	e.finish()
	receiving.Wait()
	e.check(clients)
}

// resumption is what all writers and clients of the test share.
type resumption struct {
	t       *testing.T
	db      *pgtest.DB
	began   int64
	tickets chan struct{} // one for each message
	issued  int
	next    atomic.Int64
	long    atomic.Int32 // transactions that last

	mu       sync.Mutex         // guards all below
	up       sync.Cond          // address has changed
	progress sync.Cond          // something was committed
	address  string             // of the server
	sent     int                // messages committed or rolled back
	joins    int                // to the server at address
	rooms    [resumeRooms][]int // committed
}

// maxSends is how many messages a transaction sends at most, and how many it waits for if it is a long one.
const maxSends, longTime = 5, 20

func (e *resumption) issue(n int) {
	e.issued += n
	for range n {
		e.tickets <- struct{}{}
	}
}

// await waits until so many messages are committed or rolled back.
func (e *resumption) await(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.sent < n {
		e.progress.Wait()
	}
}

func (e *resumption) serve(address string) {
	e.mu.Lock()
	e.address, e.joins = address, 0
	e.mu.Unlock()
	e.up.Broadcast()
}

// awaitJoins waits until so many clients have joined since the server was started.
func (e *resumption) awaitJoins(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.joins < n {
		e.progress.Wait()
	}
}

func (e *resumption) countJoin() {
	e.mu.Lock()
	e.joins++
	e.mu.Unlock()
	e.progress.Broadcast()
}

// write sends until there are no more tickets.
func (e *resumption) write(rng *rand.Rand) {
	for range e.tickets {
		n := 1
		if rng.IntN(3) == 0 {
			for ; n < maxSends; n++ {
				select {
				case _, more := <-e.tickets:
					if more {
						continue
					}
				default:
				}
				break
			}
		}
		e.transaction(rng, n)
	}
}

func (e *resumption) transaction(rng *rand.Rand, n int) {
	long := n > 1 && rng.IntN(4) == 0 && e.long.CompareAndSwap(0, 1)
	var mine [resumeRooms][]int
	err := pgx.BeginFunc(e.t.Context(), e.db.Admin, func(tx pgx.Tx) error {
		room := rng.IntN(resumeRooms)
		for i := range n {
			if rng.IntN(3) == 0 {
				room = rng.IntN(resumeRooms)
			}
			number := int(e.next.Add(1))
			mine[room] = append(mine[room], number)
			if _, err := tx.Exec(e.t.Context(), `select realtime.send(jsonb_build_object('n', $1::int), 'e', 'r' || $2::int)`, number, room+1); err != nil {
				return err
			}
			if long && i == 0 {
				e.others(longTime)
			}
		}
		if rng.IntN(10) == 0 {
			return errOnPurpose
		}
		return nil
	})
	if long {
		e.long.Store(0)
	}
	if err != nil && err != errOnPurpose {
		e.t.Error(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent += n
	e.progress.Broadcast()
	for room := range mine {
		if err == nil {
			e.rooms[room] = append(e.rooms[room], mine[room]...)
		}
	}
}

var errOnPurpose = fmt.Errorf("rolled back on purpose")

// others waits until others have sent so much, or have nothing to send: then the tickets are used up.
func (e *resumption) others(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for until := e.sent + n; e.sent < until && len(e.tickets) > 0; {
		e.progress.Wait()
	}
}

// finish sends the last message to every room.
func (e *resumption) finish() {
	for room := range resumeRooms {
		if _, err := e.db.Admin.Exec(e.t.Context(), `select realtime.send('{"n": -1}', 'e', 'r' || $1::int)`, room+1); err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *resumption) check(clients []*resumer) {
	gaps, joins, replayed, messages := 0, 0, 0, 0
	for _, c := range clients {
		gaps, joins, replayed, messages = gaps+c.gaps, joins+c.joins, replayed+c.replayed, messages+len(c.got)
		var missing, twice []int
		for _, n := range e.rooms[c.room] {
			switch c.got[n] {
			case 0:
				missing = append(missing, n)
			case 1:
			default:
				twice = append(twice, n)
			}
		}
		if len(missing)+len(twice)+c.gaps > 0 { // nothing is limited here, and nothing dropped: so there is no reason for a gap
			e.t.Errorf("a client of room %d, version %s: of %d messages %v are missing, with %d gaps declared; %v came twice", c.room, c.version, len(e.rooms[c.room]), missing, c.gaps, twice)
		}
		for n := range c.got {
			if n > 0 && !slices.Contains(e.rooms[c.room], n) {
				e.t.Errorf("message %d was not committed for room %d", n, c.room)
			}
		}
	}
	if replayed == 0 || joins <= len(clients) {
		e.t.Errorf("%d messages were replayed, in %d joins", replayed, joins)
	}
	e.t.Logf("%d messages sent; %d clients joined %d times and received %d, of which %d replayed; %d gaps declared", e.sent, len(clients), joins, messages, replayed, gaps)
}

// resumer is a client that comes back and goes on after what it received.
type resumer struct {
	*resumption
	room    int
	version string

	got                   map[int]int
	cursor                []string
	joins, gaps, replayed int
}

// run receives until the last message has come.
func (c *resumer) run() {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Minute)
	defer cancel()
	for failed := ""; ctx.Err() == nil; {
		c.mu.Lock()
		for c.address == failed {
			c.up.Wait()
		}
		address := c.address
		c.mu.Unlock()
		if c.receive(ctx, address) {
			return
		}
		if conn, err := c.dial(ctx, address); err != nil { // killed: there will be another
			failed = address
		} else {
			conn.CloseNow()
		}
	}
	c.t.Error("the last message did not come")
}

func (c *resumer) dial(ctx context.Context, address string) (*websocket.Conn, error) {
	url := "ws://" + address + "/socket/websocket?vsn=" + c.version + "&apikey=" + token(c.t, "u", "authenticated", nil)
	conn, _, err := websocket.Dial(ctx, url, nil)
	return conn, err
}

// receive joins and reads until the connection ends; true: the last message has come.
func (c *resumer) receive(ctx context.Context, address string) (last bool) {
	conn, err := c.dial(ctx, address)
	if err != nil {
		return false
	}
	defer conn.CloseNow()
	topic := fmt.Sprint("realtime:r", c.room+1)
	payload := map[string]any{"config": replaying(map[string]any{"after": c.cursor, "since": c.began})}
	var join any = []any{"1", "1", topic, "phx_join", payload}
	if c.version == "1.0.0" {
		join = map[string]any{"join_ref": "1", "ref": "1", "topic": topic, "event": "phx_join", "payload": payload}
	}
	data, err := json.Marshal(join)
	if err != nil || conn.Write(ctx, websocket.MessageText, data) != nil {
		return false
	}
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return false
		}
		f, err := parseFrame(c.version, kind == websocket.MessageBinary, data)
		if err != nil {
			c.t.Errorf("%v: %s", err, data)
			return false
		}
		if end, last := c.take(f); end {
			return last
		}
	}
}

// take remembers what a frame says; end: the connection is of no more use, or the last message has come.
func (c *resumer) take(f frame) (end, last bool) {
	var p struct {
		Status, Message string
		Payload         struct{ N int }
		Meta            struct {
			ID       string
			Replayed bool
		}
	}
	if err := json.Unmarshal(f.Payload, &p); err != nil {
		c.t.Errorf("%v: %s", err, f.Payload)
	}
	switch f.Event {
	case "phx_reply":
		if p.Status != "ok" {
			return true, false
		}
		c.joins++
		c.countJoin()
	case "phx_error", "phx_close":
		return true, false
	case "system":
		if strings.HasPrefix(p.Message, "ReplayGap: ") {
			c.gaps++
		}
	case "broadcast":
		if c.got[p.Payload.N]++; p.Meta.Replayed {
			c.replayed++
		}
		c.cursor = append(c.cursor, p.Meta.ID)
		c.cursor = c.cursor[max(0, len(c.cursor)-cursorLength):]
		return p.Payload.N < 0, p.Payload.N < 0
	}
	return false, false
}
