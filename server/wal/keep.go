package wal

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// confirmEvery keeps Postgres from giving us up (wal_sender_timeout) while the handler blocks, and the slot from holding
	// back WAL that is not needed.
	confirmEvery = time.Second
	// writeTimeout bounds a write of some bytes; a kernel takes them at once.
	writeTimeout = 10 * time.Second
	// Who is busy for as many looks in a row, a confirmEvery apart, may be what a shutdown waits for.
	patience = 5
	// probeTimeout bounds the question whether there is one.
	probeTimeout = time.Second
)

// keep answers Postgres, whatever the handler does, until nothing more is read or ctx ends.
func (s *stream) keep(ctx context.Context) {
	ticker := time.NewTicker(confirmEvery)
	defer ticker.Stop()
	for looks := 0; ; {
		select {
		case <-s.ended:
			if ctx.Err() != nil {
				_ = s.confirm() // so that the next connection is not told again
			}
			return
		case <-ctx.Done():
			s.end()
			return
		case <-ticker.C:
		}
		if err := s.confirm(); err != nil {
			s.giveUp(err)
			return
		}
		if !s.busy.Load() {
			looks = 0
			continue
		}
		if looks++; looks%patience == 0 && s.stopping(ctx) {
			s.giveUp(fmt.Errorf("give up the WAL, which was not read in time: %w", ErrStopping))
			return
		}
	}
}

// end has the reader return, and says how far it came. A handler that does not return cannot hold up Postgres.
func (s *stream) end() {
	_ = s.conn.Conn().SetReadDeadline(time.Unix(1, 0))
	select {
	case <-s.ended:
		_ = s.confirm()
	case <-time.After(closeTimeout):
		_ = s.confirm()
		_ = s.conn.Conn().Close()
	}
}

// giveUp ends the connection under the reader.
func (s *stream) giveUp(why error) {
	s.why = why
	_ = s.conn.Conn().Close()
}

// stopping asks whether Postgres is being shut down. The stream itself does not say so: the walsender waits until all it wrote
// is confirmed, as it would at any time, and would wait for ever, because we say that we live. Others who come are refused,
// before anything is asked of them.
func (s *stream) stopping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	at := s.conn.Conn().RemoteAddr()
	conn, err := new(net.Dialer).DialContext(ctx, at.Network(), at.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	frontend := pgproto3.NewFrontend(conn, conn)
	frontend.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": s.config.User, "database": s.config.Database}})
	if err := frontend.Flush(); err != nil {
		return false
	}
	answer, err := frontend.Receive()
	refused, ok := answer.(*pgproto3.ErrorResponse)
	return err == nil && ok && refused.Code == cannotConnectNow
}
