package lint

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
)

// Settings is what rules know of the configuration, as JSON in $1.
type Settings struct {
	AllowedRoles  []string `json:"allowed_roles"`
	BypassRoles   []string `json:"bypass_roles"`
	Issuers       int      `json:"issuers"`   // how many may issue tokens, as far as is known
	PoolSize      int      `json:"pool_size"` // connections for queries; LISTEN has one more
	Publication   string   `json:"publication"`
	ChangesSlot   string   `json:"changes_slot"`
	FeedSource    string   `json:"feed_source"` // auto, notify or wal
	ServerVersion int      `json:"server_version,omitempty"`

	// What is too much; 0: what the rule says.
	OldTransaction float64 `json:"old_transaction_seconds,omitempty"`
	NotifyQueue    float64 `json:"notify_queue_share,omitempty"`
	SlotWAL        float64 `json:"slot_wal_bytes,omitempty"`

	Now     func() time.Time `json:"-"` // this machine's clock; nil: time.Now
	Partial bool             `json:"-"` // the schema is not all there: rules that need more of it are left out
}

const undefinedTable, undefinedFunction = "42P01", "42883"

// Run applies the rules one after the other. One that fails is a finding, and hinders no other; an error says that the
// database cannot be asked any more.
func Run(ctx context.Context, tx pgx.Tx, rules []Rule, s Settings) ([]Finding, error) {
	var all []Finding
	for _, rule := range rules {
		found, err := rule.apply(ctx, tx, s)
		if err != nil && (postgres.SQLState(err) == "" || tx.Conn().IsClosed()) {
			return all, fmt.Errorf("apply rule %s: %w", rule.Name, err)
		}
		switch state := postgres.SQLState(err); {
		case s.Partial && (state == undefinedTable || state == undefinedFunction):
		case err != nil:
			found = []Finding{{
				Rule: rule.Name, Severity: Error, Object: "rule " + rule.Name,
				Finding: "could not be applied: " + err.Error(),
				Mend:    "run this as the server's role, when the database is less busy; if it stays, it is a fault of this program",
			}}
		}
		all = append(all, found...)
	}
	Sort(all)
	return all, nil
}

// apply asks one rule, in a savepoint of its own.
func (r Rule) apply(ctx context.Context, tx pgx.Tx, s Settings) ([]Finding, error) {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	found, err := r.ask(ctx, savepoint, s)
	if rolledBack := savepoint.Rollback(ctx); err == nil {
		err = rolledBack
	}
	return found, err
}

func (r Rule) ask(ctx context.Context, tx pgx.Tx, s Settings) ([]Finding, error) {
	var args []any
	if strings.Contains(r.query, "$1") {
		settings, err := s.json()
		if err != nil {
			return nil, err
		}
		args = append(args, settings)
	}
	rows, err := tx.Query(ctx, r.query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Finding, error) {
		f := Finding{Rule: r.Name, Severity: r.Severity}
		err := row.Scan(&f.Object, &f.Finding, &f.Mend)
		return f, err
	})
}

// json is the settings as of now.
func (s Settings) json() (string, error) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	s.AllowedRoles, s.BypassRoles = append([]string{}, s.AllowedRoles...), append([]string{}, s.BypassRoles...) // never null
	text, err := json.Marshal(struct {
		Settings
		Now float64 `json:"now"`
	}{s, float64(now().UnixMicro()) / 1e6})
	if err != nil {
		return "", fmt.Errorf("write the settings: %w", err)
	}
	return string(text), nil
}

// Sort puts findings in the order in which they are always shown.
func Sort(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Object, b.Object), strings.Compare(a.Finding, b.Finding))
	})
}
