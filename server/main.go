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
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/printable"
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

// rowcast is a function because help lists the table that it is itself in.
func rowcast() family {
	return family{"rowcast", "A realtime server whose only authority is Postgres.", []command{
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
	}}
}

// run is the whole program. It prints at most one line to stderr when something is wrong.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	std := stdio{env: newEnvironment(env), out: stdout, err: stderr}
	name, err := rowcast().dispatch(ctx, args, std)
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

func runHelp(ctx context.Context, args []string, std stdio) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return rowcast().help()
	}
	_, err := rowcast().dispatch(ctx, append(slices.Clone(args), "--help"), std)
	return err
}

// family is what does nothing but lead to its commands.
type family struct {
	name, about string
	commands    []command
}

// dispatch runs the command that args begin with, and gives its name.
func (f family) dispatch(ctx context.Context, args []string, std stdio) (name string, err error) {
	if len(args) == 0 {
		return "", usagef("no subcommand; see %s --help", f.name)
	}
	name, args = args[0], args[1:]
	if name == "--help" || name == "-help" || name == "-h" {
		return "", f.help()
	}
	for _, c := range f.commands {
		if c.name == name {
			return name, c.run(ctx, args, std)
		}
	}
	return "", usagef("unknown subcommand %q; see %s --help", name, f.name)
}

func (f family) help() helpAsked {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s SUBCOMMAND [flags]\n\n%s\n\nSubcommands:\n", f.name, f.about)
	for _, c := range f.commands {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(&b, "\n%s SUBCOMMAND --help tells more.\n", f.name)
	return helpAsked(b.String())
}

// usageError is an error of whoever typed the command.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// helpAsked is the help to print: asking for it is no error, but ends the command like one.
type helpAsked string

func (helpAsked) Error() string { return "help was asked for" }

// oneLine is what is wrong, as a terminal can show it: errors repeat what users, files and databases say.
func oneLine(name string, err error) string {
	text := strings.TrimSpace("rowcast "+name) + ": " + oneSpace(err)
	if away := new(pgconn.ConnectError); errors.As(err, &away) {
		text += "; rowcast doctor says what to do"
	}
	return printable.Text(text)
}
