package changes

import (
	"context"
	"log/slog"
	"sync"
	"testing"
)

// journal keeps the messages of a log.
type journal struct {
	slog.Handler
	mu   sync.Mutex // guards said
	said []string
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }

func (j *journal) WithAttrs([]slog.Attr) slog.Handler { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.said = append(j.said, r.Message)
	return nil
}

func (j *journal) count(msg string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, said := range j.said {
		if said == msg {
			n++
		}
	}
	return n
}

// Somebody who asks again and again for what he cannot have fills no log.
func TestRefusedSubscriptionsAreLoggedSparingly(t *testing.T) {
	t.Parallel()
	j := &journal{}
	th := newTheater(t, func(o *Options) { o.Logger = slog.New(j) }, notes, `
		create table broken (id int primary key);
		insert into broken select generate_series(1, 3);
		alter table broken enable row level security;
		create policy broken on broken using (1 / (id - id) = 1);
		grant select on broken to authenticated, anon;
		alter publication supabase_realtime add table broken`)
	free := th.db.NewRole(t, "nologin bypassrls")
	refusals := map[string]struct {
		who   Group
		entry string
	}{
		"a subscription asks for changes that are not published": {user(annID), `{"event":"*","schema":"public","table":"nowhere"}`},
		"rows of a snapshot cannot be read":                      {user(annID), `{"event":"*","schema":"public","table":"broken","snapshot":true}`},
		"a role may not be told of changes":                      {Group{free, []byte(`{}`)}, `{"event":"*","schema":"public","table":"notes"}`},
	}
	for msg, refusal := range refusals {
		for range 5 {
			s := th.seat(refusal.who, refusal.entry)
			s.await("-Unable to ")
			s.sub.End()
		}
		if n := j.count(msg); n != 1 {
			t.Errorf("%q is said %d times: %q", msg, n, j.said)
		}
	}
}
