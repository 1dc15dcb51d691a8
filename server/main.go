// Command rowcast is a realtime server whose only authority is Postgres.
//
// This package reads the configuration and joins the other packages into subcommands, one file each. It does not decide
// anything about tokens, channels or messages itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Exit codes.
const (
	exitGood    = 0
	exitFinding = 1 // a finding, a failed check, or anything that went wrong
	exitUsage   = 2 // wrong usage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// stdio is what a subcommand sees of the world.
type stdio struct {
	env environment
	out io.Writer
	err io.Writer
}

type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, std stdio) error
}

// commands is a function because help lists the table that it is itself in.
func commands() []command {
	return []command{
		{"serve", "run the server", runServe},
		{"dev", "run a server on a throw-away Postgres with the chat sample", runDev},
		{"migrate", "apply, undo, list or print the migrations", runMigrate},
		{"token", "mint a token, or inspect one", runToken},
		{"explain", "tell why a user may or may not receive and send on a topic", runExplain},
		{"listen", "join a channel and print what it is told", runListen},
		{"doctor", "check a configuration and its database", runDoctor},
		{"policy", "find what is unsafe in the policies, or try them out", runPolicy},
		{"health", "ask a running server whether it is ready", runHealth},
		{"version", "print the version", runVersion},
		{"help", "print this, or the help of a subcommand", runHelp},
	}
}

// run is the whole program. It prints at most one line to stderr when something is wrong.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	std := stdio{env: newEnvironment(env), out: stdout, err: stderr}
	name, err := dispatch(ctx, args, std)
	var help helpAsked
	var usage *usageError
	switch {
	case err == nil:
		return exitGood
	case errors.As(err, &help):
		fmt.Fprint(stdout, string(help))
		return exitGood
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, oneLine(name, err))
		return exitUsage
	default:
		fmt.Fprintln(stderr, oneLine(name, err))
		return exitFinding
	}
}

func dispatch(ctx context.Context, args []string, std stdio) (name string, err error) {
	if len(args) == 0 {
		return "", usagef("no subcommand; see rowcast help")
	}
	name, args = args[0], args[1:]
	if name == "--help" || name == "-help" || name == "-h" {
		return "", helpAsked(overview())
	}
	for _, c := range commands() {
		if c.name == name {
			return name, c.run(ctx, args, std)
		}
	}
	return "", usagef("unknown subcommand %q; see rowcast help", name)
}

func runHelp(ctx context.Context, args []string, std stdio) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return helpAsked(overview())
	}
	_, err := dispatch(ctx, []string{args[0], "--help"}, std)
	return err
}

func overview() string {
	var b strings.Builder
	b.WriteString("Usage: rowcast SUBCOMMAND [flags]\n\nA realtime server whose only authority is Postgres.\n\nSubcommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.summary)
	}
	b.WriteString("\nrowcast SUBCOMMAND --help tells more.\n")
	return b.String()
}

// usageError is an error of whoever typed the command.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// helpAsked is the help to print: asking for it is no error, but ends the command like one.
type helpAsked string

func (helpAsked) Error() string { return "help was asked for" }

func oneLine(name string, err error) string {
	text := strings.TrimSpace("rowcast "+name) + ": " + oneSpace(err)
	if away := new(pgconn.ConnectError); errors.As(err, &away) {
		text += "; rowcast doctor says what to do"
	}
	return text
}
