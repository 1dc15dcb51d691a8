package messages

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/repeats"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

const (
	// maxPage and maxPageBytes bound what one question brings, but for a single message that is larger.
	maxPage, maxPageBytes = 200, 256 << 10
)

var replayLimits = postgres.Limits{Statement: 3 * time.Second, Lock: time.Second}

// Gap says why what is replayed may not be all that somebody lacks.
type Gap string

const (
	GapNone       Gap = ""
	GapUnknown    Gap = "unknown"    // none of the messages to go on after is known
	GapLimit      Gap = "limit"      // it is more than is replayed
	GapDropped    Gap = "dropped"    // some of it may not be kept any more
	GapUnreadable Gap = "unreadable" // Postgres could not give a message
)

// ReplayOptions of a Replayer.
type ReplayOptions struct {
	Pool        *postgres.Pool
	Reads       int // at a time: decisions and live messages go on beside them, however many clients come back at once
	MaxMessages int // of one replay; 0: no limit
	MaxPayload  int // longer messages are not delivered live either; 0: no limit
	MaxQueue    int // bytes that may wait for a socket: a page takes a part of it; 0: no limit
	Logger      *slog.Logger
	Metrics     *metrics.Metrics
}

// Replayer reads what was sent before somebody joined.
type Replayer struct {
	options   ReplayOptions
	limits    postgres.Limits
	pageBytes int
	reads     chan struct{}
	repeats   repeats.Log
}

// NewReplayer prepares one.
func NewReplayer(o ReplayOptions) *Replayer {
	r := &Replayer{options: o, limits: replayLimits, pageBytes: maxPageBytes, reads: make(chan struct{}, max(o.Reads, 1))}
	if o.MaxQueue > 0 {
		r.pageBytes = min(r.pageBytes, max(o.MaxQueue/4, 1))
	}
	return r
}

// Past is what a client asked for: where its messages are, not what is in them.
type Past struct {
	Gap    Gap
	room   string
	topic  string // as on the wire
	join   protocol.Ref
	places []int64 // in the journal, still to be read
	page   int     // how many to read at a time: few after trouble
}

// Left is how many messages are still to be given.
func (p *Past) Left() int { return len(p.places) }

// Find asks which messages a replay brings, of those that the admission saw: all others are delivered live.
func (r *Replayer) Find(ctx context.Context, topic string, joinRef protocol.Ref, asked protocol.Replay, admission snapshot.Snapshot) (*Past, error) {
	p := &Past{room: protocol.SubTopic(topic), topic: topic, join: joinRef, page: maxPage}
	limit := max(asked.Limit, 1)
	if r.options.MaxMessages > 0 {
		limit = min(limit, int64(r.options.MaxMessages))
	}
	limit = min(limit, 1<<31-1) // it is added to
	var err error
	switch {
	case len(asked.After) > 0:
		known, dropped, more := false, false, false
		err = r.ask(ctx, sql.ReplayAfter, []any{p.room, admission.String(), uuids(asked.After), limit}, func(rows pgx.Rows) error {
			return rows.Scan(&known, &dropped, &more, &p.places)
		})
		switch {
		case !known:
			p.Gap = GapUnknown
		case dropped:
			p.Gap = GapDropped
		case more:
			p.Gap = GapLimit
		}
	case asked.HasSince:
		err = r.ask(ctx, sql.ReplaySince, []any{p.room, admission.String(), asked.Since, limit, asked.HasAfter}, func(rows pgx.Rows) error {
			return rows.Scan(&p.places)
		})
	}
	return p, err
}

// uuids leaves out what cannot be the id of a message.
func uuids(ids []string) []string {
	kept := make([]string, 0, len(ids))
	for _, id := range ids {
		if isUUID(id) {
			kept = append(kept, id)
		}
	}
	return kept
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return strings.Trim(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:], "0123456789abcdefABCDEF") == ""
}

// Page is what comes next of a Past.
type Page struct {
	Frames []*protocol.Frame
	Gap    Gap // what could not be had of it
	places int
}

// Given takes a page out of what is still to be given.
func (p *Past) Given(page Page) { p.places = p.places[page.places:] }

// Next reads the next page: as much as a socket's queue takes at once.
func (r *Replayer) Next(ctx context.Context, p *Past) (Page, error) {
	for {
		n := min(p.page, len(p.places))
		if n == 0 {
			return Page{}, nil
		}
		page, err := r.read(ctx, p, p.places[:n])
		switch {
		case err == nil:
			p.page = min(2*n, maxPage)
			return page, nil
		case ctx.Err() != nil || !(postgres.IsUnprintable(err) || postgres.IsSlow(err)):
			return Page{}, err
		case n == 1:
			r.repeats.Say(r.options.Logger, slog.LevelWarn, p.room, "message not replayed", "err", err, "topic", p.room)
			return Page{Gap: GapUnreadable, places: 1}, nil
		}
		p.page = 1
	}
}

func (r *Replayer) read(ctx context.Context, p *Past, places []int64) (page Page, err error) {
	bytes, full := 0, false
	err = r.ask(ctx, sql.ReplayMessages, []any{p.room, places, r.pageBytes, int64(r.options.MaxPayload)}, func(rows pgx.Rows) error {
		var place int
		var kept bool
		var id, event, payload *string
		var binary []byte
		if err := rows.Scan(&place, &kept, &id, &event, &payload, &binary); err != nil || full {
			return err
		}
		push := protocol.UserBroadcast{Encoding: protocol.Binary, Payload: binary}
		if payload != nil {
			push.Encoding, push.Payload = protocol.JSON, []byte(*payload)
		}
		// What was deleted by hand is not to be told any more. The rest was dropped live as well.
		if id != nil && event != nil && *event != "" && push.Payload != nil {
			push.Event, push.Meta = *event, replayedMeta(*id)
			if frame, err := protocol.Replayed(p.join, p.topic, push); err == nil {
				if bytes += frame.Size(); bytes > r.pageBytes && len(page.Frames) > 0 { // the next page is to begin with it
					full = true
					return nil
				}
				page.Frames = append(page.Frames, frame)
			}
		}
		page.places = place
		if !kept {
			page.Gap = GapDropped
		}
		return nil
	})
	return page, err
}

// ask puts one question when its turn comes, and gives its rows.
func (r *Replayer) ask(ctx context.Context, query string, args []any, each func(pgx.Rows) error) error {
	select {
	case r.reads <- struct{}{}:
		defer func() { <-r.reads }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return postgres.Read(ctx, r.options.Pool, r.limits, query, args, each)
}

// replayedMeta tells a message of the past from a live one.
func replayedMeta(id string) []byte { return []byte(`{"id":"` + id + `","replayed":true}`) }
