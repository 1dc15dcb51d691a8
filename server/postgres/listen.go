package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgxlisten"

	ask "rowcast/sql"
)

// reconnectDelay is short because private delivery stands still meanwhile. (pgxlisten's own default is a minute.)
const reconnectDelay = 250 * time.Millisecond

// listenTimeout bounds what is asked before anything is heard, LISTEN included, which pgxlisten does not.
const listenTimeout = 5 * time.Second

// Listener hears one channel over a connection of its own. The functions are called on the connection's read loop, one
// at a time, and must not block: while they run nothing is heard.
//
// It does not notice a connection that died in silence, nor what was notified while it was away; its user must prove
// that it hears.
type Listener struct {
	URL     string
	Channel string

	Connected func(ctx context.Context, conn *pgx.Conn) error // LISTEN has been sent; an error ends the connection
	Heard     func(payload string)
	Lost      func(error) // the connection is gone, or could not be made
}

// Listen connects, and connects again, until ctx ends.
func (l Listener) Listen(ctx context.Context) error {
	parsed, err := pgxpool.ParseConfig(l.URL) // which knows the pool_… settings that a shared URL may carry
	if err != nil {
		return fmt.Errorf("read LISTEN_DATABASE_URL: %w", err)
	}
	config := parsed.ConnConfig
	prepare(config, l.URL, "rowcast listener")
	h := &handler{Listener: l}
	inner := pgxlisten.Listener{
		Connect: func(ctx context.Context) (*pgx.Conn, error) { // ConnectTimeout bounds it, for each host of several
			conn, err := pgx.ConnectConfig(ctx, config.Copy())
			if err != nil {
				return nil, err
			}
			h.setUp = time.AfterFunc(listenTimeout, func() { _ = conn.PgConn().Conn().Close() })
			if _, err := conn.Exec(ctx, ask.ListenerSettings); err != nil {
				closeConn(conn)
				return nil, fmt.Errorf("set up the listener: %w", err)
			}
			return conn, nil
		},
		ReconnectDelay: reconnectDelay,
		LogError: func(ctx context.Context, err error) {
			if ctx.Err() == nil && !h.told {
				l.Lost(err)
			}
			h.told = false
		},
	}
	inner.Handle(l.Channel, h)
	if err := inner.Listen(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("listen on %s: %w", l.Channel, err)
	}
	return nil
}

// handler is the listener as pgxlisten wants it.
type handler struct {
	Listener
	setUp *time.Timer // ends a connection on which that is not answered
	told  bool        // why the connection ends, before pgxlisten sees that it does
}

func (h *handler) HandleNotification(_ context.Context, n *pgconn.Notification, _ *pgx.Conn) error {
	h.Heard(n.Payload)
	return nil
}

func (h *handler) HandleBacklog(ctx context.Context, _ string, conn *pgx.Conn) error {
	h.setUp.Stop()
	if err := h.Connected(ctx, conn); err != nil {
		closeConn(conn) // for an error alone pgxlisten would go on with it
		h.told = true
		h.Lost(err)
	}
	return nil
}
