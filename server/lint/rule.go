// Package lint asks a database for what is unsafe or broken in it. A rule is a file of SQL, whose comment says what is wrong
// and why it matters, and whose rows are what it finds.
//
// It does not know how the findings are shown, nor what to do about a database that cannot be asked.
package lint

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"rowcast/sql"
)

// Severity is how bad a finding is.
type Severity string

// Severities, the worst first.
const (
	Error   Severity = "error"   // realtime is open to whom it should not be, or does not work
	Warning Severity = "warning" // it may be, or will not under circumstances that come
	Hint    Severity = "hint"    // it works, and could be better
)

// Rule is something that can be wrong.
type Rule struct {
	Name     string
	Severity Severity
	Title    string // what is wrong, a sentence
	Why      string // why it matters
	query    string
}

// Finding is one thing that is wrong.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`
	Finding  string   `json:"finding"`
	Mend     string   `json:"mend"`
}

// Policies are the rules about the policies on realtime.messages, and what rights are made of.
func Policies() []Rule { return read(sql.Lint) }

// Database are the rules about the database that a server is to use.
func Database() []Rule { return read(sql.Doctor) }

// read panics on a file that is no rule: they are all built in, and a test reads them.
func read(files fs.FS) []Rule {
	paths, err := fs.Glob(files, "*/*.sql")
	if err != nil {
		panic(err)
	}
	var rules []Rule
	for _, p := range paths {
		text, err := fs.ReadFile(files, p)
		if err != nil {
			panic(err)
		}
		rule, err := parse(strings.TrimSuffix(path.Base(p), ".sql"), string(text))
		if err != nil {
			panic(err)
		}
		rules = append(rules, rule)
	}
	return rules
}

// parse reads a file: a line "-- severity: Title.", lines of why, and the query.
func parse(name, text string) (Rule, error) {
	rule := Rule{Name: name, query: text}
	var comment []string
	for line := range strings.Lines(text) {
		said, is := strings.CutPrefix(line, "-- ")
		if !is {
			break
		}
		comment = append(comment, strings.TrimSpace(said))
	}
	if len(comment) < 2 {
		return rule, fmt.Errorf("rule %s does not say what is wrong and why it matters", name)
	}
	severity, title, _ := strings.Cut(comment[0], ": ")
	rule.Severity, rule.Title, rule.Why = Severity(severity), title, strings.Join(comment[1:], " ")
	if !slices.Contains([]Severity{Error, Warning, Hint}, rule.Severity) || rule.Title == "" {
		return rule, fmt.Errorf("rule %s begins with none of error:, warning: and hint: in lower case", name)
	}
	return rule, nil
}
