package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

const (
	// aptTimeout bounds fetching about 80 MB and unpacking it, which took seven seconds on a good line.
	aptTimeout = 5 * time.Minute
	// dpkgStatus is apt's list of what is installed: that much is not fetched.
	dpkgStatus = "/var/lib/dpkg/status"
)

var (
	errOffline = errors.New("update package lists: no mirror answered")
	errNoApt   = errors.New("not a Debian or Ubuntu system")
)

var (
	serverPackage = regexp.MustCompile(`Depends: (postgresql-\d+)\b`)
	// unneeded are packages that only JIT and administration scripts want, most of the size.
	unneeded = regexp.MustCompile(`^(libllvm|perl|libperl)`)
	osField  = regexp.MustCompile(`(?m)^(ID|VERSION_ID)="?([^"\n]*)"?$`)
)

// apt unpacks packages of Debian's into a cache without installing anything: no service starts, nobody needs to be root, and
// signatures are checked as always.
type apt struct {
	cache    string // holds one tree per program and release of the system
	status   string
	progress io.Writer
}

// wanted is a program that apt has.
type wanted struct {
	name  string // of its tree
	size  string // for people
	pick  func(call func(program string, args ...string) (string, error)) (deb string, err error)
	check func(ctx context.Context, tree string) error // runs it as it is in the tree
}

var postgresServer = wanted{
	name: "postgres", size: "80 MB",
	pick: func(call func(string, ...string) (string, error)) (string, error) {
		depends, err := call("apt-cache", "depends", "postgresql")
		if err != nil {
			return "", fmt.Errorf("ask for the server's package: %w", err)
		}
		server := serverPackage.FindStringSubmatch(depends)
		if server == nil {
			return "", errors.New("ask for the server's package: postgresql depends on no postgresql-NN")
		}
		return server[1], nil
	},
	check: func(ctx context.Context, tree string) error {
		_, err := inspectTree(ctx, tree)
		return err
	},
}

// newApt uses the cache of this user.
func newApt(progress io.Writer) (apt, error) {
	cache, err := cacheDir()
	if err != nil {
		return apt{}, fmt.Errorf("apt: %w", err)
	}
	return apt{cache: cache, status: dpkgStatus, progress: progress}, nil
}

// fromApt returns the server of the cached tree, or fetches it.
func fromApt(ctx context.Context, progress io.Writer) (source, error) {
	a, err := newApt(progress)
	if err != nil {
		return source{}, err
	}
	return a.server(ctx)
}

func (a apt) server(ctx context.Context) (source, error) {
	tree, err := a.get(ctx, postgresServer)
	if err != nil {
		return source{}, fmt.Errorf("apt: %w", err)
	}
	return inspectTree(ctx, tree)
}

// get returns the tree that a program is in.
func (a apt) get(ctx context.Context, w wanted) (tree string, err error) {
	for _, program := range []string{"apt-get", "apt-cache", "dpkg"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", errNoApt
		}
	}
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	unlock, err := lockDir(ctx, a.cache)
	if err != nil {
		return "", err
	}
	defer unlock()

	tree = filepath.Join(a.cache, treeName(w.name))
	if w.check(ctx, tree) == nil {
		return tree, nil
	}
	fmt.Fprintf(a.progress, "pgtest: no %s here; unpacking Debian's into %s (about %s to fetch, once)\n", w.name, tree, w.size)
	work, err := os.MkdirTemp(a.cache, "fetch-")
	if err != nil {
		return "", fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(work)
	root, err := a.fetch(ctx, work, w)
	if err != nil {
		return "", err
	}
	if err := w.check(ctx, root); err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(tree), os.Rename(root, tree)); err != nil {
		return "", fmt.Errorf("keep unpacked tree: %w", err)
	}
	return tree, nil
}

// fetch downloads a program and what it needs below work, and returns the directory that it unpacked them into.
func (a apt) fetch(ctx context.Context, work string, w wanted) (root string, err error) {
	state, cache, root := filepath.Join(work, "state"), filepath.Join(work, "cache"), filepath.Join(work, "root")
	archives := filepath.Join(cache, "archives")
	for _, dir := range []string{filepath.Join(state, "lists", "partial"), filepath.Join(archives, "partial"), root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", fmt.Errorf("make work directory: %w", err)
		}
	}
	options := []string{"-qq", "-o", "Dir::State=" + state, "-o", "Dir::State::status=" + a.status, "-o", "Dir::Cache=" + cache,
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="}
	call := func(program string, args ...string) (string, error) {
		return run(ctx, nil, program, append(options, args...)...)
	}
	if _, err := call("apt-get", "update"); err != nil {
		return "", fmt.Errorf("update package lists: %w", err)
	}
	// apt calls it a success when no mirror answered.
	if lists, _ := filepath.Glob(filepath.Join(state, "lists", "*Packages*")); len(lists) == 0 {
		return "", errOffline
	}
	deb, err := w.pick(call)
	if err != nil {
		return "", err
	}
	if _, err := call("apt-get", "-y", "--no-install-recommends", "--download-only", "install", deb); err != nil {
		return "", fmt.Errorf("fetch %s: %w", deb, err)
	}
	debs, _ := filepath.Glob(filepath.Join(archives, "*.deb"))
	for _, deb := range debs {
		if unneeded.MatchString(filepath.Base(deb)) {
			continue
		}
		if _, err := run(ctx, nil, "dpkg", "-x", deb, root); err != nil {
			return "", fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	return root, os.Chmod(root, 0o755)
}

// inspectTree checks that an unpacked server runs on this system as it is now.
func inspectTree(ctx context.Context, tree string) (source, error) {
	bins, _ := filepath.Glob(filepath.Join(tree, "usr/lib/postgresql/*/bin"))
	if len(bins) == 0 {
		return source{}, fmt.Errorf("%s: holds no server", tree)
	}
	return inspect(ctx, bins[0], treeEnv(tree))
}

// treeEnv is what a program of a tree needs in its environment.
func treeEnv(tree string) []string {
	libs, _ := filepath.Glob(filepath.Join(tree, "usr/lib/*-linux-gnu*"))
	more, _ := filepath.Glob(filepath.Join(tree, "lib/*-linux-gnu*"))
	return []string{"LD_LIBRARY_PATH=" + strings.Join(append(libs, more...), ":")}
}

// treeName tells trees of different systems apart: the libraries of the system must fit.
func treeName(program string) string {
	text, _ := os.ReadFile("/etc/os-release")
	parts := []string{program, runtime.GOARCH}
	for _, field := range osField.FindAllStringSubmatch(string(text), -1) {
		parts = append(parts, field[2])
	}
	return strings.Join(parts, "-")
}
