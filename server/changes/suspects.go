package changes

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/sql"
)

// Policies of which a function swallows the timeout keep their connection for as long as they like. It is given up then, and
// nobody who was asked about together has an answer: so they are asked about one by one, until it is known who did it.

const (
	// firstBan and lastBan are how long a group is not asked about that cost a connection, the first time and after many.
	firstBan, lastBan = time.Minute, 16 * time.Minute
	// suspectFor is how long it is remembered.
	suspectFor = time.Hour
	// bannedAt is how many connections in a row a group costs until it is not asked about: one may be lost by the fault of another group.
	bannedAt = 2
)

// suspects are groups for whom questions were left without an answer.
type suspects struct {
	known map[suspectOf]*suspect
	found int // banned because of the batch under way
}

// suspectOf is a group of a table.
type suspectOf struct {
	table uint32
	group string
}

type suspect struct {
	losses int
	last   time.Time
	until  time.Time // not asked about before
}

// visible asks in a view what groups see. Those who are suspected are asked about alone, and some not at all.
func (t *trial) visible(view *epoch, of *Table, keys [][]string, groups []*group, about map[*group][]int, wanted []string) ([]Seen, error) {
	seen := make([]Seen, len(groups))
	var together []int
	var alone []int
	var slow []int
	for i, g := range groups {
		switch s := t.suspects.known[suspectOf{of.OID, g.key}]; {
		case s == nil && g.most > 0 && g.most < countOf(about, g, len(keys)):
			slow = append(slow, i)
			seen[i] = Seen{Undecided: true, Code: "57014", Reason: "its policies take too long for so many rows"}
		case s == nil:
			together = append(together, i)
		case time.Now().Before(s.until), t.suspects.found >= maxSlow:
			seen[i] = Seen{Undecided: true, Code: "57014", Reason: "its policies took a connection, and did not give it back"}
		default:
			alone = append(alone, i)
		}
	}
	if err := t.askAbout(view, of, keys, groups, about, together, wanted, seen); err != nil {
		return nil, err
	}
	for _, i := range alone {
		if err := t.askAbout(view, of, keys, groups, about, []int{i}, wanted, seen); err != nil {
			return nil, err
		}
		delete(t.suspects.known, suspectOf{of.OID, groups[i].key})
	}
	for _, i := range together {
		if seen[i].isCut(countOf(about, groups[i], len(keys))) {
			slow = append(slow, i)
		}
	}
	for _, i := range slow {
		var err error
		if seen[i], err = t.inPieces(view, of, keys, placesOf(about, groups[i], len(keys)), groups[i], wanted, seen[i]); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// askAbout asks about some of the groups in one question.
func (t *trial) askAbout(view *epoch, of *Table, keys [][]string, groups []*group, about map[*group][]int, these []int, wanted []string, seen []Seen) error {
	if len(these) == 0 {
		return nil
	}
	asked := make([]Group, len(these))
	places := make([][]int, len(these))
	for i, n := range these {
		asked[i], places[i] = groups[n].Group, about[groups[n]]
	}
	t.asked("visible")
	answers, err := view.visible(t.ctx, of, keys, asked, places, wanted)
	if view.closed() && errors.Is(err, context.DeadlineExceeded) && t.ctx.Err() == nil { // and was not lost otherwise
		t.abandon(t.ctx, view.view, err)
		for _, n := range these {
			t.suspects.lost(suspectOf{of.OID, groups[n].key}, len(these) == 1)
		}
	}
	for i, s := range answers {
		seen[these[i]] = s
	}
	return err
}

// lost notes that a connection was lost in a question about a group.
func (s *suspects) lost(who suspectOf, alone bool) {
	now := time.Now()
	for other, known := range s.known {
		if now.Sub(known.last) > suspectFor {
			delete(s.known, other)
		}
	}
	known := s.known[who]
	if known == nil {
		known = &suspect{}
		s.known[who] = known
	}
	known.losses++
	known.last = now
	if alone && known.losses >= bannedAt {
		s.found++
		known.until = now.Add(backOff(firstBan, lastBan, known.losses-bannedAt))
	}
}

// abandon ends the process of a view that was given up because it did not answer: it would go on as long as it likes.
func (o *Options) abandon(ctx context.Context, v *view, err error) {
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return
	}
	err = onPool(o.Pool).read(ctx, sql.Terminate, []any{int64(v.session.PID())}, func(pgx.Rows) error { return nil })
	if err != nil {
		o.Logger.Warn("a view that does not answer could not be ended", "err", err)
	}
}
