package wal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"rowcast/server/metrics"
)

// Options says what to read.
type Options struct {
	Name        string // of the stream in metrics and the log
	URL         string // a direct connection
	Slot        string
	Durable     bool // the slot outlives the connection, and what was written meanwhile is told by the next
	Again       bool // a durable slot was read before: if it is not there any more, that is ErrSlotLost, and the next call reads another
	After       LSN  // of a durable slot: what ended before was told. Postgres may have forgotten that, but this caller has not
	Publication string
	MaxRow      int // bytes of one change as Postgres writes it; of a larger one the values longer than 64 bytes are left out; 0: no limit
	Logger      *slog.Logger
	Metrics     *metrics.Metrics
}

// Stream makes the slot, a temporary one unless Durable, and tells h what was committed from then on until ctx ends or the
// connection is lost. ready is called once, when the place is fixed from which everything is told: nothing is missed that is
// committed after the call. It never connects again: what a loss means is its caller's to say.
//
// While h does not return, Postgres is told that we live, and how far we are. If Postgres is shut down meanwhile, which waits
// until we are done, the connection is given up.
func Stream(ctx context.Context, o Options, h Handler, ready func(LSN)) error {
	received := o.Metrics.WALBytes.WithLabelValues(o.Name)
	conn, config, err := connect(ctx, o.URL, func(r io.Reader) io.Reader { return newShrinker(counted{r, received}, o.MaxRow) })
	if err != nil {
		return err
	}
	defer closeConn(conn)
	s := &stream{
		Options: o, conn: conn, config: config, h: newCounting(h, o.Metrics, o.Name), decoder: decoder{relations: map[uint32]*Relation{}},
		ended: make(chan struct{}),
	}
	if err := checkStandbys(ctx, conn); err != nil {
		return err
	}
	from, err := openSlot(ctx, conn, o)
	if err != nil {
		return err
	}
	from = max(from, o.After)
	if err := s.start(ctx, from); err != nil {
		return err
	}
	s.told.Store(uint64(from))
	o.Metrics.WALConnections.WithLabelValues(o.Name).Inc()
	o.Logger.Info("reading the WAL", "stream", o.Name, "slot", o.Slot, "durable", o.Durable, "from", from.String())
	ready(from)
	return s.run(ctx)
}

func (s *stream) start(ctx context.Context, from LSN) error {
	// The publication is a list of names, in a literal.
	publication := strings.ReplaceAll(quote(s.Publication), "'", "''")
	err := pglogrepl.StartReplication(ctx, s.conn, quote(s.Slot), from, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'"},
	})
	if err != nil {
		return whyNoSlot(err, s.Slot)
	}
	return nil
}

// stream is a connection that is told what is committed.
type stream struct {
	Options
	decoder
	h      Handler
	conn   *pgconn.PgConn
	config *pgconn.Config // of the connection

	told    atomic.Uint64 // the place before which all has been told, and need not be told again
	busy    atomic.Bool   // something was read that has not been told yet
	writing sync.Mutex    // held while something is written to the connection

	ended chan struct{} // closed when nothing more is read
	why   error         // of an end that the keeper brought about; read once it has returned
}

// run reads until the end.
func (s *stream) run(ctx context.Context) error {
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		s.keep(ctx)
	}()
	err := s.read(ctx)
	close(s.ended)
	<-kept
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read the WAL: %w", context.Cause(ctx))
	case s.why != nil:
		return s.why
	}
	return err
}

// read tells everything as it comes.
func (s *stream) read(ctx context.Context) error {
	for ctx.Err() == nil { // after it, what has come already is not told any more
		s.busy.Store(false)
		message, err := s.conn.Frontend().Receive() // not the connection's own, which watches a context for every message
		if err != nil {
			return whyLost(err, s.Publication)
		}
		s.busy.Store(true)
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if err := s.take(m.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return whyLost(pgconn.ErrorResponseToPgError(m), s.Publication)
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			return fmt.Errorf("read the WAL: %w", ErrStopping)
		}
	}
	return ctx.Err()
}

// take tells what one message of the stream says.
func (s *stream) take(data []byte) error {
	if len(data) == 0 {
		return errMalformed
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		m, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("read a keepalive: %w", err)
		}
		if !s.inside {
			s.reached(m.ServerWALEnd)
		}
		if m.ReplyRequested {
			return s.confirm()
		}
	case pglogrepl.XLogDataByteID:
		m, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("read the WAL: %w", err)
		}
		end, err := s.decode(m.WALData, s.h)
		if err != nil {
			return err
		}
		if end > 0 {
			s.reached(end)
		}
	}
	return nil
}

func (s *stream) reached(place LSN) {
	if uint64(place) > s.told.Load() {
		s.told.Store(uint64(place))
	}
	s.h.Reached(place)
}

// confirm tells Postgres that we live, and what it may forget.
func (s *stream) confirm() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	told := LSN(s.told.Load())
	err := s.conn.Conn().SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: told})
	}
	if err != nil {
		return fmt.Errorf("answer the WAL sender: %w", err)
	}
	return nil
}
