package wal

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Why there is no stream. The errors that hold them say how that is mended.
var (
	ErrNotLogical    = errors.New("wal_level is not logical")
	ErrNoReplication = errors.New("the role may not replicate")
	ErrNoSlot        = errors.New("nothing is free to replicate with")
	ErrSlotInUse     = errors.New("another connection reads the replication slot")
	ErrSlotLost      = errors.New("the replication slot was invalidated or dropped, and what it held is gone")
	ErrNoPublication = errors.New("the publication does not exist")
	// ErrSynchronous is a database that would take the stream for a standby: commits would wait for the handler, and count as
	// replicated when it returns.
	ErrSynchronous = errors.New("synchronous_standby_names would make commits wait for the stream")
	// ErrStopping is a stream that was given up because Postgres is shutting down and waited for it.
	ErrStopping = errors.New("the database is shutting down")
)

// Codes that Postgres refuses with.
const (
	insufficientPrivilege = "42501"
	undefinedObject       = "42704"
	duplicateObject       = "42710"
	tooManyConnections    = "53300"
	limitExceeded         = "53400"
	notInState            = "55000"
	objectInUse           = "55006"
	cannotConnectNow      = "57P03"
)

// refusal is what Postgres answered, if the error is an answer. The names of settings and functions in it are the same in
// every language.
func refusal(err error) pgconn.PgError {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return *refused
	}
	return pgconn.PgError{}
}

// whyNoConnection names why there is no connection.
func whyNoConnection(err error, user string) error {
	switch r := refusal(err); {
	case r.Code == insufficientPrivilege && r.Routine == "InitPostgres":
		return fmt.Errorf("%w: alter role %s replication", ErrNoReplication, quote(user))
	case r.Code == tooManyConnections && strings.Contains(r.Message, "max_wal_senders"):
		return fmt.Errorf("%w: raise max_wal_senders, and restart Postgres", ErrNoSlot)
	}
	return fmt.Errorf("connect to read the WAL: %w", err)
}

// whyNoSlot names why a slot cannot be made or read.
func whyNoSlot(err error, slot string) error {
	switch r := refusal(err); {
	case r.Code == limitExceeded || r.Code == notInState && strings.Contains(r.Message, "max_replication_slots"):
		return fmt.Errorf("%w: raise max_replication_slots, and restart Postgres, or drop a slot that nobody reads", ErrNoSlot)
	case r.Code == notInState && strings.Contains(r.Message, "wal_level"):
		return fmt.Errorf("%w: alter system set wal_level = 'logical', and restart Postgres", ErrNotLogical)
	case r.Code == objectInUse:
		return fmt.Errorf("%w: %s: wait for it to end, or end it", ErrSlotInUse, slot)
	}
	return fmt.Errorf("use replication slot %s: %w", slot, err)
}

func lost(slot string) error {
	return fmt.Errorf("%w: drop %s, and raise max_slot_wal_keep_size", ErrSlotLost, slot)
}

// whyLost names why the stream ended.
func whyLost(err error, publication string) error {
	if refusal(err).Code == undefinedObject {
		return fmt.Errorf("%w: create publication %s; a slot from before it has to be dropped (%w)", ErrNoPublication, quote(publication), err)
	}
	return fmt.Errorf("read the WAL: %w", err)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
