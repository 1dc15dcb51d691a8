package postgres

import (
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	ask "rowcast/sql"
)

// SQL prints every migration above version from, for a DBA who applies them by hand: each in a transaction that also
// records it, so that the server finds the database current. It needs no database.
func (m Migrator) SQL(w io.Writer, from int64) error {
	list, err := m.list()
	if err != nil {
		return err
	}
	var out strings.Builder
	out.WriteString("-- Run this as the server's role, or after SET ROLE to it, so that it owns what is made here.\n\n")
	out.WriteString(ask.CreateSchema)
	for _, x := range list {
		if x.Version <= from {
			continue
		}
		text, err := fs.ReadFile(m.files(), x.Name)
		if err != nil {
			return fmt.Errorf("read migration: %w", err)
		}
		up, transaction := upPart(string(text))
		fmt.Fprintf(&out, "\n-- %s\n", x.Name)
		if transaction {
			out.WriteString("begin;\n")
		}
		out.WriteString(up)
		out.WriteString(strings.ReplaceAll(ask.RecordVersion, "$1", strconv.FormatInt(x.Version, 10)))
		if transaction {
			out.WriteString("commit;\n")
		}
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("print migrations: %w", err)
	}
	return nil
}

// upPart returns what goose would run to go up, and whether in a transaction.
func upPart(text string) (up string, transaction bool) {
	var out strings.Builder
	transaction = true
	for line := range strings.Lines(text) {
		note, isNote := strings.CutPrefix(strings.TrimSpace(line), "-- +goose ")
		switch {
		case !isNote:
			out.WriteString(line)
		case strings.EqualFold(note, "NO TRANSACTION"):
			transaction = false
		case strings.EqualFold(note, "Down"):
			return out.String(), transaction
		}
	}
	return out.String(), transaction
}
