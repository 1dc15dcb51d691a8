package wal

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// plugin decodes the WAL; every Postgres has it.
const plugin = "pgoutput"

// closeTimeout is how long a connection may take to end in order.
const closeTimeout = 2 * time.Second

// connect opens a connection for replication; what it reads goes through wrap.
func connect(ctx context.Context, url string, wrap func(io.Reader) io.Reader) (*pgconn.PgConn, *pgconn.Config, error) {
	config, err := postgres.Replication(url, "rowcast wal")
	if err != nil {
		return nil, nil, err
	}
	if wrap != nil {
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend { return pgproto3.NewFrontend(wrap(r), w) }
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, nil, whyNoConnection(err, config.User)
	}
	return conn, config, nil
}

// closeConn takes leave, and waits until Postgres has too: by then the slot is free, or gone if it was temporary. What was
// under way when a context ended is being cancelled, which is waited for in the same way.
func closeConn(conn *pgconn.PgConn) {
	limit := time.Now().Add(closeTimeout)
	if !conn.IsClosed() {
		_ = conn.Conn().SetDeadline(limit)
		conn.Frontend().Send(&pgproto3.Terminate{})
		if conn.Frontend().Flush() == nil {
			_, _ = io.Copy(io.Discard, conn.Conn())
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), limit)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.CleanupDone():
	case <-ctx.Done():
		_ = conn.Conn().Close()
	}
}

// checkStandbys refuses to be what commits wait for. Postgres tells standbys by the names of their connections alone.
func checkStandbys(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, sql.SynchronousStandbys).ReadAll()
	if err != nil {
		return fmt.Errorf("ask for the synchronous standbys: %w", err)
	}
	names := strings.ToLower(string(results[0].Rows[0][0]))
	if own := conn.ParameterStatus("application_name"); strings.Contains(names, "*") || strings.Contains(names, strings.ToLower(own)) {
		return fmt.Errorf("%w: alter system set synchronous_standby_names to the names of your standbys alone, without * and %q", ErrSynchronous, own)
	}
	return nil
}

// openSlot makes the slot, or finds a durable one, and gives the place from which on everything is told.
//
// A slot is made once every transaction that has an id by then has ended.
func openSlot(ctx context.Context, conn *pgconn.PgConn, o Options) (LSN, error) {
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, quote(o.Slot), plugin, pglogrepl.CreateReplicationSlotOptions{
		Temporary: !o.Durable, Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT",
	})
	if o.Durable && refusal(err).Code == duplicateObject {
		return findSlot(ctx, conn, o.Slot)
	}
	if err != nil {
		return 0, whyNoSlot(err, o.Slot)
	}
	if o.Durable && o.Again {
		return 0, fmt.Errorf("%w: %s was dropped, and is made anew", ErrSlotLost, o.Slot)
	}
	return readLSN(made.ConsistentPoint)
}

// findSlot gives the place up to which a durable slot is known to have been read.
func findSlot(ctx context.Context, conn *pgconn.PgConn, slot string) (LSN, error) {
	results, err := conn.Exec(ctx, sql.ReplicationSlots).ReadAll()
	if err != nil {
		return 0, fmt.Errorf("look for replication slot %s: %w", slot, err)
	}
	for _, result := range results {
		for _, row := range result.Rows {
			name, madeFor, here, gone, flushed := string(row[0]), string(row[1]), string(row[2]), string(row[3]), string(row[4])
			switch {
			case name != slot:
			case madeFor != plugin || here != "t":
				return 0, fmt.Errorf("use replication slot %s: it is another program's: drop it, or choose another name", slot)
			case gone == "t":
				return 0, lost(slot)
			default:
				return readLSN(flushed)
			}
		}
	}
	return 0, fmt.Errorf("use replication slot %s: it is not a logical slot, or was dropped just now", slot)
}

func readLSN(s string) (LSN, error) {
	lsn, err := pglogrepl.ParseLSN(s)
	if err != nil {
		return 0, fmt.Errorf("read a place in the WAL, %.32q: %w", s, err)
	}
	return lsn, nil
}

// DropSlot removes a durable slot that is not in use. It may not exist.
func DropSlot(ctx context.Context, url, slot string) error {
	conn, _, err := connect(ctx, url, nil)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	err = pglogrepl.DropReplicationSlot(ctx, conn, quote(slot), pglogrepl.DropReplicationSlotOptions{})
	switch refusal(err).Code {
	case undefinedObject:
		return nil
	case objectInUse:
		return whyNoSlot(err, slot)
	}
	if err != nil {
		return fmt.Errorf("drop replication slot %s: %w", slot, err)
	}
	return nil
}
