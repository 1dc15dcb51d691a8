package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// clientReleases are the releases of supabase-js that are tried, and the wire versions that they speak: the current one,
// the first that knows private channels, and the first of all, with the realtime-js of its time.
var clientReleases = []struct {
	release  string // a directory of testdata/client/releases; empty: the current one
	versions []string
}{
	{"", []string{"1.0.0", "2.0.0"}},
	{"2.44.0", []string{"1.0.0"}},
	{"2.0.0", []string{"1.0.0"}},
}

// TestOfficialClient drives the program, as it is built, with the unmodified supabase-js. The scenarios are in
// testdata/client/scenarios; each runs with each release in each wire version, against one server and one database.
func TestOfficialClient(t *testing.T) {
	t.Parallel()
	node := officialClient(t)
	program := buildProgram(t)
	db := pgtest.NewCluster(t, pgtest.Options{Memory: true}).DB(t) // roles are of a whole cluster, and who changes some has messages withheld
	program.run(t, db, "migrate", "up", "--with-auth")
	setUp, err := os.ReadFile(filepath.Join(clientDir, "setup.sql"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := query(t.Context(), db, string(setUp)); err != nil {
		t.Fatalf("apply setup.sql: %v", err)
	}
	server := program.serve(t, db, "127.0.0.1:0")
	holdStream(t, server)
	var all, policies sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, scenariosAtATime)
	for _, of := range clientReleases { // not with t.Parallel: most of their time they wait, and would wait for other tests as well
		for _, vsn := range of.versions {
			policies.Add(1)
			all.Go(func() {
				made := sync.OnceFunc(policies.Done)
				defer made()
				t.Run(cmp.Or(of.release, "current")+" on "+vsn, func(t *testing.T) {
					runner := startRunner(t, node, of.release, vsn, server)
					play := func(names []string) {
						var playing sync.WaitGroup
						for _, name := range names {
							playing.Go(func() {
								room <- struct{}{}
								defer func() { <-room }()
								t.Run(name, func(t *testing.T) {
									(&scenario{t: t, name: name, runner: runner, program: program, db: db}).play()
								})
							})
						}
						playing.Wait()
					}
					play(runner.policies)
					made()
					policies.Wait() // a new policy casts doubt on everybody's rights, and withholds from others what is sent meanwhile
					if _, err := query(t.Context(), db, "select realtime.sync('1 min')"); err != nil {
						t.Fatal(err)
					}
					play(runner.scenarios)
					runner.tally(t, of.release == "")
				})
			})
		}
	}
}

// scenariosAtATime are played, of all releases.
const scenariosAtATime = 8

// holdStream follows changes of a table from the beginning on. A replication slot is made when the transactions of other tests
// have ended, which may take longer than a scenario waits; as long as somebody follows, it stays.
func holdStream(t *testing.T, server *servedProcess) {
	t.Helper()
	tok, err := auth.Mint([]byte(clientSecret), auth.MintOptions{Role: "authenticated", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, server.addr, tok)
	c.push("", "realtime:held", "phx_join", map[string]any{"config": map[string]any{
		"postgres_changes": []any{map[string]any{"event": "*", "schema": "public", "table": "held"}}}})
	for late := time.After(scenarioTime); ; {
		c.mu.Lock()
		change := c.change
		c.mu.Unlock()
		if strings.Contains(c.said(), protocol.TextSubscribed) {
			return
		}
		select {
		case <-change:
		case <-late:
			t.Fatalf("no changes can be followed: %s", c.said())
		}
	}
}

// tally says how much of the suite a release has played; the current one has to play all of it.
func (r *runner) tally(t *testing.T, all bool) {
	skipped, scenarios := int(r.skipped.Load()), len(r.policies)+len(r.scenarios)
	t.Logf("%d scenarios, %d of them skipped", scenarios, skipped)
	if len(r.policies) == 0 || len(r.scenarios) == 0 || all && skipped > 0 || skipped == scenarios {
		t.Errorf("%d scenarios of %d were not played", skipped, scenarios)
	}
}

// scenarioTime bounds one scenario; its own waits give up long before.
const scenarioTime = 3 * time.Minute

// runner is a Node process that plays scenarios in one wire version. What it says is described in run.mjs.
type runner struct {
	policies  []string // scenarios that make some
	scenarios []string // all others
	stdin     io.Writer
	ended     chan struct{} // closed when no more is said
	log       *processLog
	skipped   atomic.Int64 // scenarios that the release cannot play

	mu      sync.Mutex // guards all below, and writing
	playing map[string]chan line
}

// line is what the runner says: something asked for a scenario, or that it is done.
type line struct {
	Scenarios []string
	Policies  []string
	Scenario  string
	ID        int
	Ask       string
	SQL       string
	Addr      string
	Done      bool
	Why       string
	Skipped   string
}

func startRunner(t *testing.T, node, release, vsn string, server *servedProcess) *runner {
	t.Helper()
	cmd := exec.Command(node, "run.mjs")
	cmd.Dir = clientDir
	cmd.Env = append(os.Environ(), "RELEASE="+release, "VSN="+vsn, "SERVER_URL="+server.url, "JWT_SECRET="+clientSecret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r := &runner{ended: make(chan struct{}), log: &processLog{}, playing: map[string]chan line{}}
	cmd.Stderr = r.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start node: %v", err)
	}
	r.stdin = stdin
	first := make(chan line, 1)
	go r.listen(stdout, first)
	t.Cleanup(func() {
		_ = stdin.Close() // it ends by itself then
		killer := time.AfterFunc(clientPatience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer killer.Stop()
		<-r.ended
		_ = cmd.Wait()
	})
	select {
	case listed := <-first:
		r.policies, r.scenarios = listed.Policies, listed.Scenarios
	case <-r.ended:
		t.Fatalf("node ended at once: %s", r.log.tail())
	case <-time.After(clientPatience):
		t.Fatalf("node did not list its scenarios: %s", r.log.tail())
	}
	return r
}

// listen gives each line to the scenario that it is for.
func (r *runner) listen(stdout io.Reader, first chan<- line) {
	defer close(r.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			fmt.Fprintf(r.log, "not a line of the protocol: %s\n", lines.Bytes())
			continue
		}
		if l.Scenarios != nil {
			first <- l
			continue
		}
		r.mu.Lock()
		to := r.playing[l.Scenario]
		r.mu.Unlock()
		if to != nil {
			to <- l
		}
	}
}

func (r *runner) tell(message map[string]any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.stdin.Write(append(text, '\n'))
	return err
}

// scenario is one that is being played.
type scenario struct {
	t       *testing.T
	name    string
	runner  *runner
	program program
	db      *pgtest.DB
	own     *pgtest.DB                // of the servers that it starts itself
	servers map[string]*servedProcess // by address
}

func (s *scenario) play() {
	lines := make(chan line, 16) // a scenario asks a few things at a time at most
	s.runner.mu.Lock()
	s.runner.playing[s.name] = lines
	s.runner.mu.Unlock()
	if err := s.runner.tell(map[string]any{"run": s.name}); err != nil {
		s.t.Fatalf("tell node: %v: %s", err, s.runner.log.tail())
	}
	late := time.After(scenarioTime)
	for {
		select {
		case l := <-lines:
			if l.Done {
				switch {
				case l.Why != "":
					s.t.Error(l.Why)
				case l.Skipped != "":
					s.runner.skipped.Add(1)
					s.t.Skip(l.Skipped)
				}
				return
			}
			s.answer(l)
		case <-s.runner.ended:
			s.t.Fatalf("node ended: %s", s.runner.log.tail())
		case <-late:
			s.t.Fatalf("the scenario did not end: %s", s.runner.log.tail())
		}
	}
}

func (s *scenario) answer(l line) {
	reply := map[string]any{"id": l.ID}
	answer, err := s.do(l)
	if err != nil {
		reply["error"] = err.Error()
	} else {
		reply["answer"] = answer
	}
	if err := s.runner.tell(reply); err != nil {
		s.t.Errorf("answer node: %v", err)
	}
}

// do does what only this side can do.
func (s *scenario) do(l line) (any, error) {
	switch l.Ask {
	case "sql":
		return query(s.t.Context(), s.db, l.SQL)
	case "serve": // a server of the scenario's own, with a database of its own
		addr := l.Addr
		if s.own == nil {
			s.own, s.servers, addr = pgtest.New(s.t), map[string]*servedProcess{}, "127.0.0.1:0"
		}
		server := s.program.serve(s.t, s.own, addr)
		s.servers[server.addr] = server
		return map[string]string{"url": server.url, "addr": server.addr}, nil
	case "stop":
		return nil, s.servers[l.Addr].stop()
	}
	return nil, fmt.Errorf("nothing is known about %q", l.Ask)
}

// query runs statements as a superuser, in one implicit transaction unless they say otherwise, and returns the rows of the
// last one that has any, as text.
func query(ctx context.Context, db *pgtest.DB, statements string) ([][]*string, error) {
	conn, err := db.Admin.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	results, err := conn.Conn().PgConn().Exec(ctx, statements).ReadAll()
	if err != nil {
		return nil, err
	}
	rows := [][]*string{}
	for _, result := range results {
		if len(result.FieldDescriptions) == 0 {
			continue
		}
		rows = rows[:0]
		for _, values := range result.Rows {
			row := make([]*string, len(values))
			for i, value := range values {
				if value != nil {
					text := string(value)
					row[i] = &text
				}
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}
