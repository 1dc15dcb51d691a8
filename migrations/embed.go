// Package migrations carries what must exist in the user's database: numbered goose files, plain SQL, never edited after a
// release. It does not apply them (package postgres does), and what the server asks at run time is in package sql.
package migrations

import "embed"

// FS holds every migration; `rowcast migrate sql` prints them from here.
//
//go:embed *.sql
var FS embed.FS
