package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"rowcast/server/postgres"
)

// runMigrate applies, undoes, lists or prints the embedded migrations.
func runMigrate(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("migrate up|down|status|sql [--with-auth]",
		`up      applies the migrations that the database does not have yet
down    undoes the newest; the triggers that watch() put on tables go with the migration that brought it
status  lists them
sql     prints them, for a DBA who applies them by hand`, settingsNamed("DATABASE_URL", "LOG_FORMAT"))
	withAuth := flags.Bool("with-auth", false, "with up: also apply sql/auth.sql (auth.uid() and the like), unless there is a schema auth")
	c, words, err := flags.parse(args, std.env)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return usagef("say what to do: up, down, status or sql")
	}
	c.LogLevel = max(c.LogLevel, slog.LevelWarn) // what was done is printed
	m := postgres.Migrator{URL: c.DatabaseURL, Logger: newLogger(c, std.err)}
	if words[0] == "sql" {
		return m.SQL(std.out, 0)
	}
	if err := c.require("DATABASE_URL"); err != nil {
		return err
	}
	switch words[0] {
	case "up":
		return migrateUp(ctx, m, *withAuth, std.out)
	case "down":
		undone, err := m.Down(ctx)
		return printMigrations(std.out, "undone", undone, err)
	case "status":
		list, err := m.Status(ctx)
		if err != nil {
			return err
		}
		for _, x := range list {
			state := "pending"
			if !x.AppliedAt.IsZero() {
				state = x.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(std.out, "%5d  %-20s  %s\n", x.Version, state, x.Name)
		}
		return nil
	}
	return usagef("unknown action %q: up, down, status or sql", words[0])
}

func migrateUp(ctx context.Context, m postgres.Migrator, withAuth bool, out io.Writer) error {
	applied, err := m.Up(ctx)
	if err := printMigrations(out, "applied", applied, err); err != nil || !withAuth {
		return err
	}
	made, err := postgres.ApplyAuth(ctx, m.URL)
	if err != nil {
		return err
	}
	if made {
		fmt.Fprintln(out, "applied sql/auth.sql")
	} else {
		fmt.Fprintln(out, "left the existing schema auth as it is")
	}
	return nil
}

func printMigrations(out io.Writer, done string, list []postgres.Migration, err error) error {
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintf(out, "nothing to be %s\n", done)
	}
	for _, x := range list {
		fmt.Fprintf(out, "%s %s\n", done, x.Name)
	}
	return nil
}
