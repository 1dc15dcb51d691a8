package policies

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"rowcast/server/postgres"
	"rowcast/server/printable"
)

// Roles are those of a server's configuration.
type Roles struct{ Allowed, Bypass []string }

// Run tries a file out and writes a line for every case, in the form of the Test Anything Protocol. All of it happens in one
// transaction, which is undone. It gives how many cases are not as expected; an error says that some could not be tried.
func (s *Spec) Run(ctx context.Context, url string, l postgres.Limits, roles Roles, out io.Writer) (failed int, err error) {
	r := &report{out: out, roles: roles}
	planned := 0
	for _, step := range s.steps() {
		planned += len(step.Cases)
	}
	fmt.Fprintf(out, "1..%d\n", planned)
	err = postgres.Try(ctx, url, l, func(ctx context.Context, t *postgres.Trial) error {
		if err := t.Script(ctx, s.Setup); err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		for _, step := range s.steps() {
			if step.After.Text != "" {
				r.after = step.After.Text
				if err := t.Script(ctx, step.After.Text); err != nil {
					return fmt.Errorf("after, on line %d: %w", step.After.Line, err)
				}
			}
			if err := r.try(ctx, t, step.Cases); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(out, "Bail out! %s\n", oneLine(err.Error()))
	}
	return r.failed, err
}

// report is what has been written so far.
type report struct {
	out            io.Writer
	roles          Roles
	number, failed int
	after          string // the last change
}

func (r *report) try(ctx context.Context, t *postgres.Trial, cases []Case) error {
	questions := make([]Question, len(cases))
	for i := range cases {
		q, err := cases[i].question()
		if err != nil {
			return err
		}
		questions[i] = q
	}
	answers, err := decide(ctx, t, questions, append([]string{}, r.roles.Bypass...)) // never nil
	for i, a := range answers {
		r.write(&cases[i], a)
	}
	return err
}

func (r *report) write(c *Case, a Answer) {
	r.number++
	role := c.As.role()
	refused := a.Known && !slices.Contains(r.roles.Allowed, role) // at the door, before anybody asks policies
	if refused {
		a = Answer{Known: true, Reason: fmt.Sprintf("refused: role %s is not in ALLOWED_ROLES", role)}
	}
	var wrong []string
	for action, may := range map[string]bool{"receive": a.Receive, "send": a.Send} {
		switch {
		case a.Undecided && (slices.Contains(c.May, action) || slices.Contains(c.MayNot, action)):
			wrong = append(wrong, "whether "+action+": not decided")
		case may && slices.Contains(c.MayNot, action):
			wrong = append(wrong, "may "+action)
		case !may && slices.Contains(c.May, action):
			wrong = append(wrong, "may not "+action)
		}
	}
	if len(wrong) == 0 && a.Known {
		fmt.Fprintf(r.out, "ok %d - %s\n", r.number, escape(c.Name))
		switch { // as expected, and perhaps not for the reason that is meant
		case refused:
			fmt.Fprintf(r.out, "# %s\n", oneLine(a.Reason))
		case a.Code != "":
			fmt.Fprintf(r.out, "# an error refuses: %s\n", oneLine(a.Reason))
		}
		return
	}
	r.failed++
	fmt.Fprintf(r.out, "not ok %d - %s\n", r.number, escape(c.Name))
	if !a.Known {
		fmt.Fprintf(r.out, "# line %d: there is no role %s\n", c.Topic.Line, oneLine(role))
		return
	}
	slices.Sort(wrong)
	fmt.Fprintf(r.out, "# line %d: %s %s on %s (%s)\n", c.Topic.Line, oneLine(c.As.String()), strings.Join(wrong, ", "), oneLine(c.Topic.Text), oneLine(c.Extension))
	if a.Reason != "" {
		fmt.Fprintf(r.out, "# %s\n", oneLine(a.Reason))
	}
	if r.after != "" {
		fmt.Fprintf(r.out, "# after: %s\n", oneLine(r.after))
	}
}

// oneLine keeps what comes from others from looking like lines of ours, and from steering the terminal.
func oneLine(text string) string { return printable.Text(strings.Join(strings.Fields(text), " ")) }

// escape keeps a name from reading as a directive, such as # SKIP.
func escape(name string) string { return strings.ReplaceAll(oneLine(name), "#", `\#`) }
