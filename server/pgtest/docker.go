package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed container.sh
var containerScript string

const (
	// The labels say whose a container is: one whose process is gone is removed at the next start.
	labelPid  = "rowcast.pgtest.pid"
	labelHost = "rowcast.pgtest.host"

	// pullTimeout bounds fetching an image, about 150 MB.
	pullTimeout = 10 * time.Minute
	// portEvery is how often Docker is asked for the port of a container that it has not started yet.
	portEvery = 100 * time.Millisecond
)

// DockerAnswers tells a client with a daemon from a client alone, which is common.
func DockerAnswers(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("docker: not installed")
	}
	_, err := ask(ctx, nil, "docker", "info", "--format", "{{.ServerVersion}}")
	return err
}

// pullDocker fetches the image before the clock of the start runs.
func pullDocker(ctx context.Context, image string, progress io.Writer) error {
	if _, err := ask(ctx, nil, "docker", "image", "inspect", "--format", "{{.Id}}", image); err == nil {
		return nil
	}
	fmt.Fprintln(progress, "pgtest: fetching", image)
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if _, err := run(ctx, nil, "docker", "pull", "-q", image); err != nil {
		return fmt.Errorf("pull %s: %w", image, err)
	}
	return nil
}

// startDocker runs the image. Here too the server ends with our end of a pipe: the container's first process reads it.
func startDocker(ctx context.Context, o Options, found source) (*Cluster, error) {
	sweepContainers(ctx)
	name, password := "rowcast-pg-"+randomName(6), randomName(16)
	host, _ := os.Hostname()
	args := []string{"run", "-i", "--rm", "--name", name,
		"--label", labelPid + "=" + strconv.Itoa(os.Getpid()), "--label", labelHost + "=" + host,
		"-e", "POSTGRES_PASSWORD=" + password, "-e", "POSTGRES_INITDB_ARGS=--no-sync --encoding=UTF8 --no-locale",
		// One level above the data, whose place differs between majors.
		"-e", "PGDATA=/var/lib/postgresql/pgtest", "--tmpfs", "/var/lib/postgresql",
		"-p", "127.0.0.1::5432", "--entrypoint", "sh", found.image, "-c", containerScript, "pgtest"}

	c := &Cluster{Source: found.String(), psql: "psql", container: name}
	if err := c.launchDocker(append(args, settings(o.Settings)...)); err != nil {
		return nil, err
	}
	address, err := c.dockerAddress(ctx, name)
	if err == nil {
		c.password = password
		c.admin = url.URL{Scheme: "postgres", User: url.UserPassword(superuser, password), Host: address,
			Path: "/" + superuser, RawQuery: "sslmode=disable"}
		err = c.await(ctx)
	}
	if err == nil {
		c.Major, err = c.askMajor(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", c.Source, err, tail(c.log)), c.Stop())
	}
	return c, nil
}

// launchDocker starts the client that stays attached to the container.
func (c *Cluster) launchDocker(args []string) error {
	in, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open pipe to the container: %w", err)
	}
	defer in.Close()
	status, out, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("open status pipe: %w", err), hold.Close())
	}
	defer out.Close()
	log, err := os.CreateTemp("", "rowcast-pg-*.log")
	if err != nil {
		return errors.Join(fmt.Errorf("open container log: %w", err), hold.Close(), status.Close())
	}
	c.log = log
	_ = os.Remove(log.Name()) // it lives as long as it is open
	c.owner = exec.Command("docker", args...)
	c.owner.Stdin, c.owner.Stdout, c.owner.Stderr = in, out, log
	c.owner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.owner.Start(); err != nil {
		return errors.Join(fmt.Errorf("start docker: %w", err), hold.Close(), status.Close(), log.Close())
	}
	c.hold, c.status = hold, status
	return nil
}

// dockerAddress waits until the container's port is known on the host.
func (c *Cluster) dockerAddress(ctx context.Context, name string) (string, error) {
	for {
		out, err := ask(ctx, nil, "docker", "port", name, "5432/tcp")
		if address, _, _ := strings.Cut(strings.TrimSpace(out), "\n"); err == nil && address != "" {
			return address, nil
		}
		if err := c.status.SetReadDeadline(time.Now().Add(portEvery)); err != nil {
			return "", fmt.Errorf("watch the container: %w", err)
		}
		if _, gone := c.status.Read(make([]byte, 1)); gone != nil && !errors.Is(gone, os.ErrDeadlineExceeded) {
			return "", errors.New("the container ended")
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("wait for the container's port: %w (%w)", ctx.Err(), err)
		}
	}
}

// sweepContainers removes containers of ours, started on this host, whose process is gone.
func sweepContainers(ctx context.Context) {
	host, _ := os.Hostname()
	out, err := ask(ctx, nil, "docker", "ps", "-a", "--filter", "label="+labelHost+"="+host,
		"--format", `{{.ID}} {{.Label "`+labelPid+`"}}`)
	if err != nil {
		return
	}
	for line := range strings.Lines(out) {
		id, owner, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(owner)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		_, _ = ask(ctx, nil, "docker", "rm", "-f", "-v", id)
	}
}
