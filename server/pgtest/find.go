package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// oldest is the first major that Rowcast supports.
	oldest = 14
	// askTimeout bounds a program that is asked for its version or its state.
	askTimeout = 5 * time.Second
	// defaultImage is what Docker runs when nobody asks for another.
	defaultImage = "postgres:17"
)

// NotFoundError says that this machine has no Postgres, and what to do.
type NotFoundError struct{ Tried []string }

func (e *NotFoundError) Error() string {
	return "no Postgres found: install one (apt-get install postgresql, brew install postgresql), start Docker, or set" +
		" TEST_DATABASE_URL, PGTEST_BIN or PGTEST_IMAGE; tried " + strings.Join(e.Tried, "; ")
}

// source is a Postgres that can be started: a directory of binaries or a Docker image.
type source struct {
	bin   string
	env   []string // what the binaries need in their environment
	image string
	major int
}

func (s source) String() string {
	if s.image != "" {
		return "Docker image " + s.image
	}
	return fmt.Sprintf("Postgres %d from %s", s.major, s.bin)
}

// find returns the first Postgres that works: the one asked for, else local binaries, apt, Docker.
func find(ctx context.Context, o Options) (source, error) {
	if o.Binaries == "" && o.Image == "" { // the caller knows better than the environment
		o.Binaries, o.Image = os.Getenv("PGTEST_BIN"), os.Getenv("PGTEST_IMAGE")
	}
	if o.Binaries != "" {
		return inspect(ctx, o.Binaries, nil)
	}
	if o.Image != "" {
		return source{image: o.Image}, DockerAnswers(ctx)
	}
	none := &NotFoundError{}
	for _, dir := range localDirs(ctx) {
		found, err := inspect(ctx, dir, nil)
		if err == nil {
			return found, nil
		}
		none.Tried = append(none.Tried, err.Error())
	}
	if err := ctx.Err(); err != nil {
		return source{}, fmt.Errorf("find Postgres: %w", err)
	}
	if len(none.Tried) == 0 {
		none.Tried = append(none.Tried, "local binaries: none")
	}
	found, err := fromApt(ctx, o.Progress)
	if err == nil {
		return found, nil
	}
	none.Tried = append(none.Tried, err.Error())
	if err = DockerAnswers(ctx); err == nil {
		return source{image: defaultImage}, nil
	}
	none.Tried = append(none.Tried, err.Error())
	return source{}, none
}

// localDirs lists where binaries may be, best first.
func localDirs(ctx context.Context) []string {
	var dirs []string
	add := func(dir string) {
		// pg_config comes with the client's headers alone too, so a directory must hold both programs.
		if holds(dir, "initdb") && holds(dir, "postgres") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if out, err := ask(ctx, nil, "pg_config", "--bindir"); err == nil {
		add(strings.TrimSpace(out))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(path))
		}
	}
	var rest []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern)
		rest = append(rest, found...)
	}
	slices.SortStableFunc(rest, func(a, b string) int { return lastNumber(b) - lastNumber(a) })
	for _, dir := range rest {
		add(dir)
	}
	return dirs
}

// inspect checks that the binaries in dir run and are new enough.
func inspect(ctx context.Context, dir string, env []string) (source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return source{}, fmt.Errorf("resolve %s: %w", dir, err)
	}
	if !holds(dir, "initdb") || !holds(dir, "postgres") {
		return source{}, fmt.Errorf("%s: holds no initdb and postgres", dir)
	}
	out, err := ask(ctx, env, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return source{}, err
	}
	major := firstNumber(out)
	if major < oldest {
		return source{}, fmt.Errorf("%s: %s is older than %d", dir, strings.TrimSpace(out), oldest)
	}
	return source{bin: dir, env: env, major: major}, nil
}

func holds(dir, program string) bool {
	info, err := os.Stat(filepath.Join(dir, program))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// ask runs a short command and returns what it printed, or the last line of its complaint.
func ask(ctx context.Context, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return run(ctx, env, name, args...)
}

func run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), append([]string{"LC_ALL=C"}, env...)...)
	cmd.WaitDelay = time.Second // a grandchild may keep the pipe open
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		lines := strings.Split(strings.TrimSpace(string(failed.Stderr)), "\n")
		err = fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return string(out), fmt.Errorf("%s: %w", filepath.Base(name), err)
}

var numbers = regexp.MustCompile(`\d+`)

func firstNumber(text string) int {
	n, _ := strconv.Atoi(numbers.FindString(text))
	return n
}

func lastNumber(path string) int {
	all := numbers.FindAllString(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1])
	return n
}
