package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rowcast/server/lint"
	"rowcast/server/printable"
)

// title is a rule or a check in a list.
type title struct {
	name, text string
	severity   lint.Severity
	why        string
}

func titles(rules []lint.Rule) []title {
	var all []title
	for _, r := range rules {
		all = append(all, title{r.Name, r.Title, r.Severity, r.Why})
	}
	return all
}

// named keeps the rules of these titles.
func named(rules []lint.Rule, among []title) []lint.Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r lint.Rule) bool {
		return !slices.ContainsFunc(among, func(t title) bool { return t.name == r.Name })
	})
}

// show is how a subcommand shows what it finds.
type show struct {
	what  string // rule or check
	list  bool
	json  bool
	names []string // none: all
}

func newShow(flags *commandFlags, what string) *show {
	s := &show{what: what}
	flags.BoolVar(&s.list, "list", false, "print the "+what+"s, and ask nothing")
	flags.BoolVar(&s.json, "json", false, "print a JSON array")
	flags.Func(what, "apply only the one of this `name`; may be repeated", func(name string) error {
		s.names = append(s.names, name)
		return nil
	})
	return s
}

// chosen are those that were asked for.
func (s *show) chosen(flags *commandFlags, all []title) ([]title, error) {
	for _, name := range s.names {
		if !slices.ContainsFunc(all, func(t title) bool { return t.name == name }) {
			return nil, usagef("there is no %s %q; see rowcast %s --list", s.what, name, flags.command())
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(t title) bool {
		return len(s.names) > 0 && !slices.Contains(s.names, t.name)
	}), nil
}

func (s *show) printList(out io.Writer, all []title) error {
	if s.json {
		type entry struct {
			Name     string        `json:"name"`
			Severity lint.Severity `json:"severity"`
			Title    string        `json:"title"`
		}
		entries := []entry{}
		for _, t := range all {
			entries = append(entries, entry{t.name, t.severity, t.text})
		}
		return printJSON(out, entries)
	}
	for _, t := range all {
		if _, err := fmt.Fprintf(out, "%-7s  %-24s  %s\n", t.severity, t.name, t.text); err != nil {
			return err
		}
	}
	return nil
}

// printFindings gives an error if there is one among them that is more than a hint.
func (s *show) printFindings(out io.Writer, found []lint.Finding) error {
	if s.json {
		if err := printJSON(out, append([]lint.Finding{}, found...)); err != nil { // [], not null
			return err
		}
	} else if err := printFindings(out, found); err != nil {
		return err
	}
	counts := map[lint.Severity]int{}
	for _, f := range found {
		counts[f.Severity]++
	}
	if counts[lint.Error]+counts[lint.Warning] == 0 {
		return nil
	}
	var said []string
	for _, severity := range []lint.Severity{lint.Error, lint.Warning, lint.Hint} {
		switch n := counts[severity]; n {
		case 0:
		case 1:
			said = append(said, "1 "+string(severity))
		default:
			said = append(said, fmt.Sprintf("%d %ss", n, severity))
		}
	}
	return errors.New("found " + strings.Join(said, ", "))
}

func printFindings(out io.Writer, found []lint.Finding) error {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-7s  %s: %s\n         %s\n         mend: %s\n", f.Severity, f.Rule, printable.Text(f.Object), printable.Text(f.Finding), printable.Text(f.Mend))
	}
	if len(found) == 0 {
		b.WriteString("nothing found\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
