package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"rowcast/server/api"
	"rowcast/server/policies"
	"rowcast/server/postgres"
)

const (
	// maxSessionLine is the longest that the server writes about one session: a token's claims and headers, and room.
	maxSessionLine = 1 << 20
	// maxSessions bounds what is kept in memory.
	maxSessions = 1_000_000
	// sessionsTimeout bounds the list.
	sessionsTimeout = time.Minute
)

func runPolicyDiff(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("policy diff NEW.sql",
		`Says how many of the private channels that are open now would lose or gain a right by NEW.sql. The server that runs
on ADMIN_ADDR lists them; NEW.sql is run, all are decided, and all is undone. Meanwhile its locks keep others waiting as
they would be: CREATE and ALTER POLICY keep everybody else from joining, for up to --hold.

NEW.sql is SQL as an application sends it: no psql commands such as \i, and no BEGIN or COMMIT, as it is one transaction.
What does not belong to a transaction is not undone: sequences, and what functions do outside the database.
Exit code 0: nobody would lose or gain anything, 1: somebody would, or it could not be found out.`,
		settingsNamed("DATABASE_URL", "ADMIN_ADDR"))
	hold := flags.Duration("hold", 5*time.Second, "how long NEW.sql may hold its locks, a `duration` (default 5s)")
	lock := flags.Duration("lock-timeout", time.Second, "how long it may wait for one lock, and have others wait behind it, a `duration` (default 1s)")
	config, text, err := flags.parseFile(args, std.env)
	if err != nil {
		return err
	}
	if *hold < time.Millisecond || *lock < time.Millisecond { // 0 would be no limit to Postgres
		return usagef("--hold and --lock-timeout must be at least 1ms")
	}
	if err := config.require("DATABASE_URL"); err != nil {
		return err
	}
	sessions, err := liveSessions(ctx, "http://"+reachable(config.AdminAddr)+"/sessions")
	if err != nil {
		return err
	}
	d, err := policies.Compare(ctx, config.DatabaseURL, string(text), sessions, postgres.Limits{Statement: *hold, Lock: *lock}, *hold)
	if errors.Is(err, policies.ErrHeldTooLong) {
		return fmt.Errorf("%w; --hold gives more", err)
	}
	if err != nil {
		return err
	}
	d.Write(std.out)
	if n := d.Changes(); n > 0 {
		return fmt.Errorf("rights would change: %d", n)
	}
	if d.Undecided > 0 {
		return fmt.Errorf("not decided: %d", d.Undecided)
	}
	return nil
}

// liveSessions asks a running server.
func liveSessions(ctx context.Context, address string) (*policies.Sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionsTimeout)
	defer cancel()
	response, err := askServer(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("no server answers on ADMIN_ADDR, where the open sessions are asked for; start one, or correct the setting: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: the server answered %s; run this on its machine, or in its container", address, response.Status)
	}
	sessions := new(policies.Sessions)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxSessionLine)
	count := 0
	for lines.Scan() {
		if count++; count > maxSessions {
			return nil, fmt.Errorf("more than %d sessions", maxSessions)
		}
		var s api.Session
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read what %s lists: %w", address, err)
		}
		sessions.Add(policies.Session{
			Topic: s.Topic, Subject: s.Subject, Role: s.Role, Claims: string(s.Claims), Headers: string(s.Headers), Presence: s.Presence,
			Receives: !s.InDoubt && (s.Rights.Broadcast.Receive || s.Rights.Presence.Receive),
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what %s lists: %w", address, err)
	}
	return sessions, nil
}
