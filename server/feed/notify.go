package feed

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// channel is what the triggers notify. There is one, because the order between two would be lost.
const channel = "realtime"

// hint is what one notification says, or one message of the WAL, read but not believed.
type hint struct {
	kind  hintKind
	entry entry  // of a message, or a disconnect
	token token  // of these, or a mark that is kept: nobody knows it before the COMMIT
	mark  Mark   // of a mark
	nonce string // of a fence
	proof *proof
	found *found

	stream int          // number of the stream of the WAL that said it; 0: NOTIFY did
	xid    snapshot.XID // of the transaction that said it, in a stream
	reason string       // why a stream was lost
}

// size is what a hint counts against the inbox's bound: about its size in memory, with what its sender chose.
func (h hint) size() int { return 200 + len(h.mark.Subject) + len(h.mark.Topic) + len(h.nonce) }

// proof is a heartbeat that came back.
type proof struct {
	snapshot snapshot.Snapshot // it was sent after all this
	xid      snapshot.XID      // by this
	source   source            // as of then, or later
	serves   bool              // the server that sent it; the same
	others   bool              // are alive and hear the WAL; the same
	epoch    uint64
	sent     time.Time
}

// found is what a new connection found.
type found struct {
	position
	losses uint64 // before it
}

type hintKind uint8

const (
	hintMessage    hintKind = iota
	hintMark                //
	hintDisconnect          //
	hintFence               // one of our heartbeats or fences, or somebody's
	hintProven              // ours: a heartbeat came back
	hintLost                // ours: the source is interrupted here
	hintConnected           // ours: the source begins here
	hintAgain               // ours: what came has had no place, and may have one now
	hintStreamUp            // ours: so does a stream
	hintStreamLost          // ours: and is lost
)

func (k hintKind) String() string {
	return [...]string{"message", "mark", "disconnect", "heartbeat"}[k]
}

// entry names a row of realtime._journal.
type entry struct {
	xid snapshot.XID
	seq int64
}

// token is a uuid. Postgres reads many spellings of one; we read the one that it writes.
type token [16]byte

func parseToken(text string) (t token, err error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return t, errNoToken
	}
	if _, err := hex.Decode(t[:], []byte(text[:8]+text[9:13]+text[14:18]+text[19:23]+text[24:])); err != nil {
		return t, errNoToken
	}
	return t, nil
}

var errNoToken = errors.New("read journal token: not a uuid")

func (t token) String() string {
	text := hex.EncodeToString(t[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// parse reads a payload: "m <xid> <seq> <token>" a message, "r {x,s,t,l,k}" a mark, "d <xid> <token>" a disconnect,
// "h <nonce>" a heartbeat. Anyone may have sent it.
func parse(payload string) (hint, error) {
	kind, rest, _ := strings.Cut(payload, " ")
	switch kind {
	case "m":
		x, rest, _ := strings.Cut(rest, " ")
		s, t, _ := strings.Cut(rest, " ")
		xid, err := snapshot.ParseXID(x)
		if err != nil {
			return hint{}, err
		}
		seq, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return hint{}, fmt.Errorf("read journal place: %w", err)
		}
		token, err := parseToken(t)
		if err != nil {
			return hint{}, err
		}
		return hint{kind: hintMessage, entry: entry{xid, seq}, token: token}, nil
	case "r":
		var aim struct {
			X    string
			S, T string
			L    bool
			K    string
		}
		if err := json.Unmarshal([]byte(rest), &aim); err != nil {
			return hint{}, fmt.Errorf("read mark: %w", err)
		}
		xid, _ := snapshot.ParseXID(aim.X) // without one the policies are asked all the same
		token, _ := parseToken(aim.K)
		return hint{kind: hintMark, token: token, mark: Mark{XID: xid, Subject: aim.S, Topic: aim.T, Lenient: aim.L}}, nil
	case "d":
		x, t, _ := strings.Cut(rest, " ")
		xid, err := snapshot.ParseXID(x)
		if err != nil {
			return hint{}, err
		}
		token, err := parseToken(t)
		if err != nil {
			return hint{}, err
		}
		return hint{kind: hintDisconnect, entry: entry{xid, noPlace}, token: token}, nil
	case "h":
		if len(rest) != nonceLength {
			return hint{}, fmt.Errorf("read heartbeat: a nonce has %d characters", nonceLength)
		}
		return hint{kind: hintFence, nonce: rest}, nil
	}
	return hint{}, fmt.Errorf("read notification: unknown kind %.8q", kind)
}

// listen hears until the connection has to be given up: ctx ended, silence, or overflow. It returns an error only if it
// can never hear.
func (f *Feed) listen(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx, giveUp) })
	defer watching.Wait()
	defer giveUp(nil)
	err := postgres.Listener{
		URL: f.options.ListenURL, Channel: channel, Heard: f.hear, Lost: f.lost,
		Connected: func(ctx context.Context, conn *pgx.Conn) error {
			first := !f.everHeard()
			err := f.connected(ctx, conn)
			if first && errors.Is(err, ErrPooled) {
				giveUp(err)
			}
			return err
		},
	}.Listen(ctx)
	f.interrupted()
	if err == nil && errors.Is(context.Cause(ctx), ErrPooled) {
		err = ErrPooled
	}
	return err
}

func (f *Feed) everHeard() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard
}

func (f *Feed) connected(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, f.options.DeafAfter)
	defer cancel()
	at, err := scanPosition(conn.QueryRow(ctx, sql.Horizon))
	if err != nil {
		return err
	}
	direct, err := isDirect(ctx, conn)
	if err != nil {
		return err
	}
	f.mu.Lock()
	losses := f.losses
	f.mu.Unlock()
	if direct {
		f.inUse()
	}
	f.options.Metrics.FeedReconnects.Inc()
	f.put(hint{kind: hintConnected, found: &found{at, losses}})
	if direct {
		return nil
	}
	if err := f.checkPooler(ctx, conn); err != nil {
		return err
	}
	f.inUse()
	return nil
}

// inUse begins a new epoch: what a heartbeat proves from here on, it proves of this connection.
func (f *Feed) inUse() {
	f.mu.Lock()
	f.since = time.Now()
	if !f.leads {
		f.epoch++
	}
	f.mu.Unlock()
}

func (f *Feed) hear(payload string) {
	if h, err := f.read(payload, "notify"); err == nil {
		f.heartbeatHeard(h.nonce, &f.alarmed)
		f.put(h)
	}
}

// read parses what a source says, and counts it.
func (f *Feed) read(payload, source string) (hint, error) {
	h, err := parse(payload)
	if err != nil {
		f.options.Metrics.FeedIgnored.WithLabelValues("malformed").Inc()
		f.options.Logger.Debug("hint ignored", "source", source, "err", err)
		return h, err
	}
	f.options.Metrics.FeedHeard.WithLabelValues(h.kind.String(), source).Inc()
	return h, nil
}

func (f *Feed) lost(err error) {
	if postgres.SQLState(err) == "25006" {
		err = fmt.Errorf("LISTEN_DATABASE_URL leads to a standby, and only a primary can be listened to: %w", err)
	}
	f.mu.Lock()
	again, leads := f.trouble == err.Error(), f.leads
	f.trouble = err.Error()
	f.mu.Unlock()
	switch {
	case again: // the same trouble once, not at every attempt
	case leads:
		f.options.Logger.Warn("no alarms are heard, only the WAL", "err", err)
	default:
		f.options.Logger.Warn("the database is not heard", "err", err)
	}
	f.interrupted()
}

// interrupted makes void what was on its way, and says so in the feed's order.
func (f *Feed) interrupted() {
	f.mu.Lock()
	f.losses++
	f.since = time.Time{}
	if !f.leads {
		f.epoch++
		f.lease.end()
	}
	f.mu.Unlock()
	f.put(hint{kind: hintLost})
}

// watch gives the connection up when it is silent: a dead one looks like a quiet one, except that our own heartbeats do
// not come back.
func (f *Feed) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(f.options.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.mu.Lock()
		silent, hearing, overflow, leads := !f.lease.holds(time.Now()), f.hearing, f.overflow, f.leads
		deaf := silent || overflow && !leads
		if leads { // of this connection the lease says nothing
			silent = time.Since(f.alarmed) > f.options.DeafAfter
		}
		dead := silent && !f.since.IsZero() && time.Since(f.since) > f.options.DeafAfter
		f.mu.Unlock()
		if hearing && deaf {
			f.deaf() // at once: the feed's own goroutine may be stuck behind what it cannot read
		}
		switch {
		case overflow:
			f.options.Logger.Error("more notifications than the feed can hold; it begins anew", "limit", maxInbox)
		case dead:
			f.options.Logger.Warn("own heartbeats are not heard; the listener begins anew", "after", f.options.DeafAfter)
		default:
			continue // a connection that is being made has bounds of its own
		}
		f.interrupted()
		giveUp(nil)
		return
	}
}
