package changes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/wal"
	"rowcast/sql"
)

const (
	// firstPage and lastPage are how many rows are read at a time: few, until it is known how large they are.
	firstPage, lastPage = 16, 256
	// pageBytes is how much of rows is read at a time, once that is known.
	pageBytes = 512 << 10
	// maxAttempts is how often a page is asked for that takes too long, each time with fewer rows.
	maxAttempts = 8
	// lookedAt is how many rows are read for one that may be given: a filter may leave out the others.
	lookedAt = 100
)

// readJob reads the snapshots that a subscription's entries ask for.
type readJob struct {
	*Options
	exported     string // the snapshot's name
	topic        string
	role, claims string
	entries      []Entry
	imported     func()                              // the name is not needed any more
	give         func(frames []*protocol.Frame) bool // waits until they are read
	asking       chan struct{}                       // holds one for each who is asking the database

	view    *view
	rows    int  // given
	unknown bool // of some rows it cannot be told whether they are wanted
}

// readResult is what became of it.
type readResult struct {
	rows int
	gap  bool   // some may be missing
	why  notice // for the client; empty: all was given
	err  error  // why it is tried again
}

// errGivenUp: nobody wants the rest.
var errGivenUp = errors.New("given up")

func (j *readJob) run(ctx context.Context) readResult {
	var err error
	if j.view, err = openView(ctx, j.URL, j.BypassRoles); err != nil {
		return readResult{why: away, err: err}
	}
	defer j.view.close()
	if _, err = j.view.session.BeginAt(ctx, j.exported); err != nil {
		return readResult{why: away, err: err}
	}
	j.imported()
	for i := range j.entries {
		e := &j.entries[i]
		if !e.Snapshot {
			continue
		}
		why, err := j.entry(ctx, e)
		switch {
		case err != nil:
			return readResult{why: noSnapshot(protocol.TextSnapshotFailed, e.Schema, e.Table), err: err}
		case why != notice{}:
			return readResult{why: why}
		}
	}
	return readResult{rows: j.rows, gap: j.unknown}
}

// entry gives the rows of an entry's table, or says why it cannot be done.
func (j *readJob) entry(ctx context.Context, e *Entry) (why notice, err error) {
	found, err := find(ctx, j.view, j.Publication, e.Schema, e.Table)
	if err != nil || len(found.Tables) == 0 {
		return notice{protocol.PostgresChangesRefused, e.Unavailable()}, err
	}
	tables, err := describe(ctx, j.view, j.Publication, found.Tables)
	if err != nil || len(tables) == 0 {
		return notice{protocol.PostgresChangesRefused, e.Unavailable()}, err
	}
	p := &pages{readJob: j, entry: e, table: tables[0], size: firstPage, limit: j.MaxSnapshotRows}
	if p.told, err = readTold(ctx, j.view, j.Publication, p.table.OID); err != nil {
		return notice{}, err
	}
	if len(p.table.Key) == 0 {
		return noSnapshot(protocol.TextSnapshotRefused, e.Schema, e.Table, textSnapshotKey), nil
	}
	for _, c := range e.Filter {
		column := p.table.column(c.Column)
		if column < 0 {
			return notice{protocol.PostgresChangesRefused, e.Refused(invalidColumn(c.Column))}, nil
		}
		of := p.table.Columns[column].Type
		p.filter = append(p.filter, &condition{Condition: c, column: column, of: of, matches: c.Compile(of)})
	}
	j.asked("policies")
	by, err := readPolicies(ctx, j.Pool, p.table.OID)
	if err != nil {
		return notice{}, err
	}
	p.table.reads = by.Relations
	if why, err = p.all(ctx); err != nil || why != (notice{}) {
		return why, err
	}
	j.asked("rewritten")
	rewritten, err := j.view.rewritten(ctx, p.table)
	if err == nil && rewritten {
		err = errRewritten
	}
	return notice{}, err
}

func invalidColumn(name string) string { return exception("P0001", "invalid column for filter "+name) }

// pages reads one table.
type pages struct {
	*readJob
	entry  *Entry
	table  *Table
	told   told
	filter []*condition
	size   int // rows of the next page
	limit  int // rows that may be given; 0: any number
	given  int
	looked int
}

func (p *pages) all(ctx context.Context) (why notice, err error) {
	var last []string
	for {
		frames, rows, refused, err := p.next(ctx, last)
		switch {
		case err != nil:
			return notice{}, err
		case refused != notice{}:
			return refused, nil
		case len(rows) == 0:
			return notice{}, nil
		}
		p.given, p.looked = p.given+len(frames), p.looked+len(rows)
		if p.limit > 0 && (p.given > p.limit || p.looked/lookedAt > p.limit) {
			return noSnapshot(protocol.TextSnapshotTooLarge, p.table.Schema, p.table.Name, p.limit), nil
		}
		if len(frames) > 0 && !p.give(frames) {
			return notice{}, errGivenUp
		}
		p.rows += len(frames)
		if len(rows) < p.size {
			return notice{}, nil
		}
		last = p.keyOf(rows[len(rows)-1])
		p.resize(rows)
	}
}

// next makes frames of the next rows, when it is this one's turn to ask the database: whoever waits for a reader is not in the way
// of others. What takes too long is tried with fewer rows.
func (p *pages) next(ctx context.Context, last []string) (frames []*protocol.Frame, rows [][]wal.Value, refused notice, err error) {
	for attempt := 1; ; attempt++ {
		select {
		case p.asking <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, notice{}, ctx.Err()
		}
		var columns map[int]bool
		var slow bool
		rows, columns, slow, refused, err = p.page(ctx, last)
		if err == nil && !slow && refused == (notice{}) {
			frames, err = p.frames(ctx, rows, columns)
		}
		<-p.asking
		switch {
		case !slow:
			return frames, rows, refused, err
		case p.size == 1 || attempt == maxAttempts:
			return nil, nil, noSnapshot(protocol.TextSnapshotRefused, p.table.Schema, p.table.Name, textSnapshotRights), nil
		}
		p.size = max(1, p.size/4)
	}
}

// resize has the next page be about as large as it should.
func (p *pages) resize(rows [][]wal.Value) {
	bytes := 1
	for _, row := range rows {
		for _, v := range row {
			bytes += len(v.Text)
		}
	}
	p.size = min(max(1, int(int64(pageBytes)*int64(len(rows))/int64(bytes))), lastPage, 4*p.size)
}

func (p *pages) keyOf(row []wal.Value) []string {
	key := make([]string, len(p.table.Key))
	for i, name := range p.table.Key {
		key[i] = string(row[p.table.column(name)].Text)
	}
	return key
}

// page asks for the next rows. slow: it took too long; refused is why they cannot be had.
func (p *pages) page(ctx context.Context, last []string) (rows [][]wal.Value, columns map[int]bool, slow bool, refused notice, err error) {
	var refusal, missing, code, reason string
	var readable []string
	var texts [][]*string
	longest := p.MaxRow
	if longest <= 0 {
		longest = 1 << 30
	}
	args := []any{
		int64(p.table.OID), p.table.Key, orEmpty(last), p.role, p.claims, orEmpty(p.BypassRoles), columnNames(p.table), p.size, longest, p.told.sieve,
	}
	p.Metrics.ChangesQuestions.WithLabelValues("page").Inc()
	err = p.view.read(ctx, sql.ChangesPage, args, func(rows pgx.Rows) error {
		return rows.Scan(&refusal, &missing, &readable, &texts, &code, &reason)
	})
	if postgres.IsSlow(err) && !p.view.closed() { // it was not the rows themselves
		code, reason, err = postgres.SQLState(err), err.Error(), nil
	}
	switch {
	case err != nil:
		if p.view.closed() {
			p.abandon(ctx, p.view, err)
		}
		return nil, nil, false, notice{}, fmt.Errorf("read rows of %s.%s: %w", p.table.Schema, p.table.Name, err)
	case missing != "":
		return nil, nil, false, noSnapshot(protocol.TextSnapshotRefused, p.table.Schema, p.table.Name, missing), nil
	case refusal != "" || code != "":
		why := textSnapshotRights
		if code == "42501" && p.told.sieve != "" {
			why = textSnapshotSieve
		}
		slow = code == "57014" || code == "55P03" || code == "53200"
		table := named(Name{p.table.Schema, p.table.Name})
		p.say(slog.LevelWarn, strings.Join([]string{table, p.role, code}, " "), "rows of a snapshot cannot be read", "table", table, "role", p.role, "rows", p.size, "sqlstate", code, "detail", refusal+reason)
		return nil, nil, slow, noSnapshot(protocol.TextSnapshotRefused, p.table.Schema, p.table.Name, why), nil
	}
	columns = map[int]bool{}
	for _, name := range readable {
		columns[p.table.column(name)] = true
	}
	for _, c := range p.filter { // it was checked: the grant was taken back since
		if !columns[c.column] {
			return nil, nil, false, notice{protocol.PostgresChangesRefused, p.entry.Refused(invalidColumn(c.Column))}, nil
		}
	}
	for _, t := range texts {
		rows = append(rows, p.row(t))
	}
	return rows, columns, false, notice{}, nil
}

// row reads values as the question has them.
func (p *pages) row(texts []*string) []wal.Value {
	row := make([]wal.Value, len(p.table.Columns))
	bytes := 0
	for i, text := range texts {
		switch {
		case text == nil:
			row[i] = wal.Value{Kind: wal.Null}
		case (*text)[0] == 'l':
			row[i] = wal.Value{Kind: wal.TooLarge}
		default:
			row[i] = wal.Value{Kind: wal.Text, Text: []byte((*text)[1:])}
			bytes += len(*text)
		}
	}
	if p.MaxRow > 0 && bytes > p.MaxRow { // as of a change that is too large
		for i, v := range row {
			if len(v.Text) > shortValue {
				row[i] = wal.Value{Kind: wal.TooLarge}
			}
		}
	}
	return row
}

// shortValue is the longest value that is kept of a row that is too large.
const shortValue = 64

// frames makes INSERTs of the rows that match.
func (p *pages) frames(ctx context.Context, rows [][]wal.Value, columns map[int]bool) (frames []*protocol.Frame, err error) {
	made := newTable(&wal.Relation{}, p.table)
	h := &hearing{table: made, Options: p.Options, front: p.view}
	for _, c := range p.filter {
		made.conditions[fmt.Sprint(len(made.conditions))] = c
		c.asked = nil
	}
	for _, values := range rows {
		values = p.published(values)
		r := &row{item: &item{change: wal.Change{Kind: wal.Insert}}}
		s := &state{new: values, place: -1, rendered: map[valueOf][]byte{}}
		r.hearing, r.states = []*hearing{h}, []*state{s}
		h.rows = append(h.rows, r)
	}
	if err := h.compare(ctx); err != nil {
		return nil, err
	}
	if err := h.askRendered(ctx); err != nil {
		return nil, err
	}
	w := want{id: p.entry.ID, events: p.entry.Events, filter: p.filter}
	shown := p.shown(columns)
	for _, r := range h.rows {
		s := r.states[0]
		if held := w.holds(s.new); held != yes {
			p.unknown = p.unknown || held == unknown
			continue
		}
		c := DataChange{
			Table: p.table, Name: Name{p.table.Schema, p.table.Name}, Kind: wal.Insert, Committed: time.Now(), Columns: shown, New: s.new,
			NumbersAsText: p.entry.NumbersAsText,
			Rendered:      func(column int, old bool) []byte { return s.rendered[valueOf{column, old}] },
		}
		if isCut(s.new) {
			c.Errors = []string{ErrorTooLarge}
		}
		data, err := AppendData(nil, c)
		if err != nil {
			return nil, err
		}
		frames = append(frames, protocol.TextEvent(p.topic, protocol.EventPostgresChanges, Payload([]int{p.entry.ID}, data)))
	}
	return frames, nil
}

// published is a row as the stream would have it.
func (p *pages) published(values []wal.Value) []wal.Value {
	values = slices.Clone(values)
	for i, c := range p.table.Columns {
		if !c.Generated && !slices.Contains(p.told.columns, c.Name) {
			values[i] = wal.Value{Kind: NotThere}
		}
	}
	return values
}

func isCut(row []wal.Value) bool {
	for _, v := range row {
		if v.Kind == wal.TooLarge {
			return true
		}
	}
	return false
}

// shown are the columns that the entry selects and the role may read.
func (p *pages) shown(columns map[int]bool) (shown []int) {
	for i := range p.table.Columns {
		if columns[i] && p.table.selects(p.entry.Select, i) && (p.table.Columns[i].Generated || slices.Contains(p.told.columns, p.table.Columns[i].Name)) {
			shown = append(shown, i)
		}
	}
	return shown
}
