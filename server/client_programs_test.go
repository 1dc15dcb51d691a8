package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rowcast/server/pgtest"
)

const (
	clientDir    = "../testdata/client"
	clientSecret = "the secret of the official client's tests"
	// clientPatience bounds waits for a process to do what it was told.
	clientPatience = time.Minute
	// oldestNode is the first major that supabase-js runs on.
	oldestNode = 20
)

// officialClient finds Node and makes sure that the locked packages are installed. Without Node the test is skipped, or
// fails where tests are required.
func officialClient(t *testing.T) (node string) {
	t.Helper()
	node, err := findNode()
	for _, of := range clientReleases {
		if err == nil {
			err = installClient(of.release)
		}
	}
	if err == nil {
		return node
	}
	text := fmt.Sprintf("the official client cannot run: install Node %d or newer, with npm (%v)", oldestNode, err)
	if os.Getenv("PGTEST_REQUIRE") != "" || os.Getenv("CI") != "" && os.Getenv("CI") != "false" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

func findNode() (string, error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return "", err
	}
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask node for its version: %w", err)
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestNode {
		return "", fmt.Errorf("this is node %s", version)
	}
	return node, nil
}

// installClient has npm install what the lock file of a release says, unless that is there. A copy of the lock file, written last,
// tells; the lock keeps other test processes from installing at the same time.
func installClient(release string) error {
	dir := clientDir
	if release != "" {
		dir = filepath.Join(clientDir, "releases", release)
	}
	lockFile := filepath.Join(dir, "package-lock.json")
	installed := filepath.Join(dir, "node_modules", ".installed-lock.json")
	lock, err := os.Open(lockFile)
	if err != nil {
		return err
	}
	defer lock.Close() // ends the flock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lockFile, err)
	}
	want, err := io.ReadAll(lock)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(installed); err == nil && bytes.Equal(have, want) {
		return nil
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	return os.WriteFile(installed, want, 0o644)
}

// program is the path of the built binary.
type program string

// buildProgram builds the binary, with the race detector if this test has it.
func buildProgram(t *testing.T) program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rowcast")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("build rowcast: %v: %s", err, out)
	}
	return program(path)
}

// environment is what the program is configured by, and nothing else.
func (p program) environment(db *pgtest.DB, more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + db.PoolURL, "LISTEN_DATABASE_URL=" + db.URL, "JWT_SECRET=" + clientSecret}, more...)
}

func (p program) run(t *testing.T, db *pgtest.DB, args ...string) {
	t.Helper()
	cmd := exec.Command(string(p), args...)
	cmd.Env = p.environment(db)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rowcast %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// servedProcess is a running `rowcast serve`.
type servedProcess struct {
	url, addr string
	stop      func() error // as an operator would, and waits for the end; the second call does nothing
}

// untilOrphaned runs a command that gets SIGTERM when standard input ends: however this process dies, the server goes.
const untilOrphaned = `exec 3<&0
(cat <&3; kill -TERM $$) >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-`

// serve starts a server and waits until it is ready. It ends with the test at the latest.
func (p program) serve(t *testing.T, db *pgtest.DB, addr string) *servedProcess {
	t.Helper()
	orphaned, alive, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &processLog{}
	cmd := exec.Command("/bin/sh", "-c", untilOrphaned, "sh", string(p), "serve")
	cmd.Env = p.environment(db, "ADDR="+addr, "ADMIN_ADDR=127.0.0.1:0")
	cmd.Stdin = orphaned
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start rowcast: %v", err)
	}
	_ = orphaned.Close()
	ended := make(chan struct{})
	serving := make(chan string, 1)
	var exit error // of the process, once ended
	go func() {
		defer close(ended)
		followLog(io.TeeReader(stderr, log), serving)
		exit = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what waited for standard input to end
		_ = alive.Close()
	}()
	var once sync.Once
	stop := func() (err error) {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
				err = exit
			case <-time.After(clientPatience):
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				<-ended
				err = errors.New("it had to be killed")
			}
			if err != nil {
				err = fmt.Errorf("stop rowcast: %w: %s", err, log.tail())
			}
		})
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log: %s", log.tail())
		}
	})
	s := &servedProcess{stop: stop}
	select {
	case s.addr = <-serving:
	case <-ended:
		t.Fatalf("rowcast serve ended: %v: %s", exit, log.tail())
	case <-time.After(clientPatience):
		t.Fatalf("rowcast serve does not say where it serves: %s", log.tail())
	}
	s.url = "http://" + s.addr
	awaitReady(t, s.url, log)
	return s
}

// followLog reads a server's log to its end, and tells the address from the line that has it.
func followLog(log io.Reader, serving chan<- string) {
	lines := bufio.NewReader(log)
	for {
		text, err := lines.ReadBytes('\n')
		var entry struct{ Msg, Addr string }
		if json.Unmarshal(text, &entry) == nil && entry.Msg == "listening" {
			serving <- entry.Addr
		}
		if err != nil {
			return
		}
	}
}

func awaitReady(t *testing.T, url string, log *processLog) {
	t.Helper()
	said := ""
	for end := time.Now().Add(clientPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(url + "/readyz")
		if err != nil {
			said = err.Error()
			continue
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
		said = string(body)
	}
	t.Fatalf("%s/readyz: %s: %s", url, said, log.tail())
}

// processLog keeps the end of what a process says.
type processLog struct {
	mu   sync.Mutex // guards all below
	text []byte
}

// maxProcessLog is plenty for a test's log, and little for a loop's.
const maxProcessLog = 64 << 10

func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	if over := len(l.text) - maxProcessLog; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
	return len(b), nil
}

func (l *processLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
