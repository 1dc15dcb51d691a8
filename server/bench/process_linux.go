package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cores that processes are pinned to. Those that are not pinned run where the kernel puts them.
const (
	anyCore       = -1
	serverCore    = 0
	generatorCore = 1
)

const (
	// stopPatience is what a server is given to end by itself.
	stopPatience = 10 * time.Second
	// keptErrors is how much of what a process says on standard error is quoted.
	keptErrors = 4 << 10
)

// process is a child: it ends with us, however we end.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors *tail
	name   string
}

// start runs this program's own command, or, given an absolute path, another program.
func start(ctx context.Context, core int, env []string, command ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p := &process{name: command[0], errors: &tail{}}
	if !strings.HasPrefix(command[0], "/") {
		command = append([]string{self}, command...)
	}
	if core != anyCore {
		command = append([]string{self, "pin", strconv.Itoa(core)}, command...)
	}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopPatience
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stderr = p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return p, nil
}

// cleanEnv is our environment without what would tune Go's runtime: defaults are measured.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"GOGC", "GODEBUG", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK"}, name)
	})
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// line reads what the process says next.
func (p *process) line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait() // so that the errors are complete
		return "", fmt.Errorf("%s ended: %s", p.name, p.errors)
	}
	return strings.TrimSpace(text), nil
}

// stop ends a server and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	gone := time.AfterFunc(stopPatience, func() { _ = p.cmd.Process.Kill() })
	defer gone.Stop()
	_ = p.cmd.Wait() // ended by a signal, as asked
}

// pinned binds this thread to a core and becomes the command. A Go program that may use one core counts one.
func pinned(args []string) error {
	core, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("read the core: %w", err)
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	return fmt.Errorf("run %s: %w", args[1], unix.Exec(args[1], args[1:], os.Environ()))
}

// cores are those that we may use.
func cores() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, fmt.Errorf("count the cores: %w", err)
	}
	if !set.IsSet(serverCore) || !set.IsSet(generatorCore) {
		return 0, errors.New("the benchmarks need cores 0 and 1, one for the server and one for the load")
	}
	return set.Count(), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards all below
	text []byte
	seen int // lines
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.seen += bytes.Count(b, []byte{'\n'})
	if excess := len(t.text) - keptErrors; excess > 0 {
		t.text = t.text[excess:]
	}
	return len(b), nil
}

// lines is how many were written.
func (t *tail) lines() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := string(bytes.TrimSpace(t.text)); text != "" {
		return text
	}
	return "it said nothing"
}
