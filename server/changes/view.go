package changes

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

const (
	// maxGroups is how many groups share a question: about a second's worth, under simple policies and for few rows.
	maxGroups = 1000
	// maxSlow is how many groups whose policies take all of their time a question waits for.
	maxSlow = 2
)

// view is a REPEATABLE READ transaction on a connection of its own: who sees what, as of one snapshot.
type view struct {
	session     *postgres.Session
	bypassRoles []string
}

// openView connects. There is no transaction before begin.
func openView(ctx context.Context, url string, bypassRoles []string) (*view, error) {
	session, err := postgres.Connect(ctx, url, "rowcast changes", askLimits)
	if err != nil {
		return nil, fmt.Errorf("open a view: %w", err)
	}
	return &view{session, orEmpty(bypassRoles)}, nil
}

// begin ends what the view was before, and returns what it sees from now on.
func (v *view) begin(ctx context.Context) (snapshot.Snapshot, error) {
	text, err := v.session.Begin(ctx)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	return snapshot.Parse(text)
}

// end lets go of the snapshot, which keeps VACUUM from its work.
func (v *view) end(ctx context.Context) error { return v.session.End(ctx) }

// close ends the connection.
func (v *view) close() { v.session.Close() }

// closed tells whether the connection is lost: open another view.
func (v *view) closed() bool { return v.session.Closed() }

func (v *view) read(ctx context.Context, query string, args []any, each func(pgx.Rows) error) error {
	return v.session.Read(ctx, query, args, each)
}

// Group is those who cannot differ in what they see.
type Group struct {
	Role   string
	Claims []byte // of one of them, whole; nil: what all users of the role have in common is asked, and about rows only if policies do not bind it
}

// Seen is what a group sees. Where nothing else is said, it sees nothing.
type Seen struct {
	Columns     []string    // that the role may read, in the table's order
	RowSecurity bool        // policies bind the role on this table
	All         bool        // they do not: whatever is there, it sees
	Visible     []int       // places among the keys, from 0
	Texts       [][]*string // of each of these the wanted columns as text; nil: NULL, or not for this role

	Refusal      string // why the role is refused whatever the table
	Missing      string // the grants that it lacks to be told of any row
	Code, Reason string // SQLSTATE and words of the error that its policies ended in
	Failed       []int  // places of the only rows about which they did; nil: all
	Gone         bool   // the table is not there any more
	Undecided    bool   // not told in time, by its own fault (then there is a Code) or another's
	Rewritten    bool   // something that it depends on was written anew since the view began: what is not seen may have been there
}

// visible asks which of the rows with these keys each group sees. A key has a value for each column of t.Key. Of what is
// visible, the wanted columns are read, too: of that version of the row which this view sees.
//
// about has for a group the places of the only keys that it is asked about, in order; nil: all are.
//
// A change of role has everything looked up again, and those behind slow ones may not be asked about: the order of groups matters.
func (v *view) visible(ctx context.Context, t *Table, keys [][]string, groups []Group, about [][]int, wanted []string) ([]Seen, error) {
	seen := make([]Seen, len(groups))
	for i := range seen {
		seen[i] = Seen{Undecided: true, Reason: "not asked in time: the policies of others take too long"}
	}
	todo := make([]int, len(groups))
	for i := range todo {
		todo[i] = i
	}
	var columns []string
	for c := range t.Key {
		for _, key := range keys {
			columns = append(columns, key[c])
		}
	}
	most := maxGroups
	for slow := 0; len(todo) > 0 && slow < maxSlow; {
		asked := todo[:min(len(todo), most)]
		answered, err := v.ask(ctx, t, columns, len(keys), groups, about, asked, wanted, seen)
		switch {
		case postgres.IsSlow(err) && len(asked) > 1: // the time was up between two of them
			most = 1
			continue
		case postgres.IsSlow(err):
			seen[todo[0]] = Seen{Undecided: true, Code: postgres.SQLState(err), Reason: err.Error()}
			answered = 1
		case err != nil:
			return nil, fmt.Errorf("ask who sees rows of %s.%s: %w", t.Schema, t.Name, err)
		case answered == 0:
			return nil, fmt.Errorf("ask who sees rows of %s.%s: no answer", t.Schema, t.Name)
		}
		if last := todo[answered-1]; seen[last].Undecided {
			// Nobody before it used up the time if it was the first. Else it is the first now.
			if answered == 1 {
				slow++
			} else {
				answered--
			}
		}
		todo = todo[answered:]
	}
	return seen, nil
}

// ask is one question; it returns how many were answered. The last of these may be undecided.
func (v *view) ask(ctx context.Context, t *Table, columns []string, keys int, groups []Group, about [][]int, asked []int, wanted []string, seen []Seen) (answered int, err error) {
	roles, claims, places := make([]string, len(asked)), make([]*string, len(asked)), make([]*string, len(asked))
	for i, g := range asked {
		roles[i] = groups[g].Role
		if groups[g].Claims != nil {
			text := string(groups[g].Claims)
			claims[i] = &text
		}
		if about != nil && about[g] != nil && len(about[g]) < keys {
			places[i] = placesText(about[g])
		}
	}
	args := []any{int64(t.OID), orEmpty(t.Key), orEmpty(columns), roles, claims, v.bypassRoles, orEmpty(wanted), places, t.behind()}
	err = v.read(ctx, sql.ChangesVisible, args, func(rows pgx.Rows) error {
		var place int
		var s Seen
		var visible, failed []int32
		if err := rows.Scan(&place, &s.Refusal, &s.Missing, &s.Columns, &s.RowSecurity, &visible, &s.Texts, &failed, &s.Code, &s.Reason, &s.Rewritten); err != nil {
			return err
		}
		s.Undecided = s.Code == "57014" || s.Code == "55P03"
		s.Gone = s.Code == codeGone && len(s.Columns) == 0
		s.All = !s.RowSecurity && s.Code == "" && s.Refusal == "" && s.Missing == ""
		s.Visible, s.Failed = fromOne(visible), fromOne(failed)
		seen[asked[place-1]] = s
		answered = place
		return nil
	})
	return answered, err
}

// codeGone is what is said of a table that was dropped: undefined_table. A policy may end in it too, but then the role reads columns.
const codeGone = "42P01"

// fromOne counts from 0 what Postgres counts from 1.
func fromOne(of []int32) (all []int) {
	for _, n := range of {
		all = append(all, int(n)-1)
	}
	return all
}

// placesText writes places as Postgres reads an int[], counted from 1.
func placesText(of []int) *string {
	text := []byte{'{'}
	for i, n := range of {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(n)+1, 10)
	}
	whole := string(append(text, '}'))
	return &whole
}
