package changes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/rights/aim"
	"rowcast/sql"
)

// policies are those of a table, as far as it matters who is asked about together, and about which version of a row.
type policies struct {
	Claims  aim.Claims `json:"-"` // that they can tell users of one role apart by
	Columns []string   `json:"-"` // of the table itself, that they may look at

	own []string // of these, those that they name

	Relations []int64  `json:"relations"` // that they read
	Functions []int64  `json:"functions"` // that they call
	Roles     []string `json:"roles"`     // of which it is known which policies apply to them
	digest    string

	clock bool // they look at it, for all that is known
	lifts bool // what hid a row from somebody may go along with it

	ties  aim.Ties
	names []string // of the table's columns, as they were when the policies were read
}

// readPolicies finds out what the policies of a table can tell users apart by, and which rows they hide from users of these roles.
//
// Who is asked about together must not differ under the policies that Postgres applies, which are those of the very moment, in
// the snapshot of a view too. So what a view said counts only if the policies are unchanged afterwards.
func readPolicies(ctx context.Context, pool *postgres.Pool, relation uint32, roles ...string) (*policies, error) {
	p := &policies{Roles: orEmpty(roles)}
	err := onPool(pool).read(ctx, sql.ChangesPolicies, []any{int64(relation), p.Roles}, func(rows pgx.Rows) error {
		var text []byte
		if err := rows.Scan(&text, &p.Relations, &p.Functions, &p.digest, &p.Columns, &p.clock, &p.lifts); err != nil {
			return err
		}
		facts, err := aim.Read(text)
		p.Claims, p.ties = aim.ReadClaims(facts), aim.ReadTies(facts)
		p.lifts = p.lifts && !aim.OnlyGrants(facts)
		for _, t := range facts.Tables {
			for _, c := range t.Columns { // there are none but of the table itself
				p.names = append(p.names, c.Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the policies of a table: %w", err)
	}
	return p, nil
}

// lookElsewhere tells whether something else than the row and the user decides: then a version of a row that was replaced may have
// been for others, whatever its columns say.
func (p *policies) lookElsewhere() bool { return p.Claims.All || len(p.Relations) > 1 }

// unchanged tells of the policies of several tables whether they are what they were when they were read.
func unchanged(ctx context.Context, pool *postgres.Pool, all []*policies) ([]bool, error) {
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("ask for the digest of policies: %w", err)
	}
	var digests []string
	err = onPool(pool).read(ctx, sql.ChangesPoliciesDigest, []any{string(text)}, func(rows pgx.Rows) error { return rows.Scan(&digests) })
	if err == nil && len(digests) != len(all) {
		err = fmt.Errorf("%d for %d tables", len(digests), len(all))
	}
	if err != nil {
		return nil, fmt.Errorf("read the digest of policies: %w", err)
	}
	same := make([]bool, len(all))
	for i, p := range all {
		same[i] = p.digest == digests[i]
	}
	return same, nil
}

// groupKey is the same for those who cannot differ in what they see, if these are the claims that make a difference. Where
// claims are spelled differently they count as different.
func groupKey(role string, claims []byte, c aim.Claims) string {
	var key strings.Builder
	key.WriteString(role)
	key.WriteByte(0)
	var values map[string]json.RawMessage
	if c.All || json.Unmarshal(claims, &values) != nil {
		key.Write(claims)
		return key.String()
	}
	for _, name := range c.Names {
		value, there := values[name]
		if !there {
			continue
		}
		var compact bytes.Buffer
		_ = json.Compact(&compact, value) // it was read before
		fmt.Fprintf(&key, "%q:%s,", name, compact.Bytes())
	}
	return key.String()
}
