package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// What the documentation lists is what the code holds; -update writes it.
func TestListsInTheDocumentation(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"../docs/codes.md":   codesPage(t),
		"../docs/metrics.md": metricsPage(),
		"../docs/lint.md":    lintPage(),
		"../docs/doctor.md":  doctorPage(),
	}
	for path, want := range pages {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the code says; go test -run Documentation ./server -update writes it", path)
		}
	}
}

// What the documentation says is tested is a test.
func TestTestsNamedInTheDocumentation(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	eachGoFile(t, func(path string, source []byte) {
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(match[1])] = strings.HasSuffix(path, "_test.go")
		}
	})
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`").FindAllSubmatch(text, -1) {
			if name := string(match[1]); !tests[name] {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

// Every line of docs/compatibility.md says how it is here, and names a test unless there is nothing to test.
func TestCompatibilityIsShown(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, better, found := strings.Cut(string(page), "# Better on purpose")
	if !found {
		t.Fatal("docs/compatibility.md has no part about what is better on purpose")
	}
	rows := 0
	for part, same := range map[string]bool{tables: true, better: false} {
		for line := range strings.Lines(part) {
			cells := strings.Split(strings.Trim(line, "|\n"), "|")
			if !strings.HasPrefix(line, "| ") || strings.HasPrefix(cells[0], " behaviour") {
				continue
			}
			rows++
			if len(cells) != 3 {
				t.Errorf("%d cells: %s", len(cells), line)
				continue
			}
			here, tests := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
			if same && !regexp.MustCompile(`^(same($|[;,] )|differently: |later$|no tenants$)`).MatchString(here) {
				t.Errorf("here is %q: %s", here, line)
			}
			if untestable := here == "later" || here == "no tenants"; untestable != (tests == "") ||
				!untestable && !regexp.MustCompile("^`Test\\w+`(, `Test\\w+`)*$").MatchString(tests) {
				t.Errorf("tests are %q: %s", tests, line)
			}
		}
	}
	if rows < 90 {
		t.Errorf("%d rows were found", rows)
	}
}

// Every fault that is tested is in the operators' table.
func TestFaultsInTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	eachGoFile(t, func(_ string, source []byte) {
		for _, match := range regexp.MustCompile(`(?m)^func (TestFault[A-Z]\w+)\(`).FindAllSubmatch(source, -1) {
			if !strings.Contains(string(page), "`"+string(match[1])+"`") {
				t.Errorf("docs/operating.md does not name %s", match[1])
			}
		}
	})
}

// Every change that is tested is on the page about rights, and every line there names a test.
func TestChangesInTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/rights.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range []string{"rights_rows_test.go", "rights_changes_test.go"} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)(?:^\t\t|change)\{"([^"]+)", `).FindAllSubmatch(source, -1) {
			found++
			if !strings.Contains(string(page), "`"+string(match[1])+"`") {
				t.Errorf("docs/rights.md does not name the change %q of %s", match[1], path)
			}
		}
	}
	if found < 50 {
		t.Errorf("%d changes were found", found)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if !strings.HasPrefix(line, "| ") || cells[0] == " what changes " {
			continue
		}
		rows++
		if len(cells) != 4 || !regexp.MustCompile("`Test\\w+`").MatchString(cells[3]) && !strings.Contains(cells[3], "the same") {
			t.Errorf("no test is named: %s", line)
		}
	}
	if rows < 30 {
		t.Errorf("%d rows were found", rows)
	}
}

func codesPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# What clients are told\n\nA code is the same for the client, in the log and in the metrics. Texts with `%` are filled in.\n" +
		"Over REST the code is in the header `x-error-code`; the text is another where one is named ([rest.md](rest.md)).\n\n" +
		"| code | text | where | text over REST |\n|---|---|---|---|\n")
	for _, e := range protocol.Codes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Code, cell(e.Texts), places(e), cell(e.REST))
	}
	b.WriteString("\n## Why a socket ends\n\nThe label of `realtime_sockets_closed_total`.\n\n| reason | |\n|---|---|\n")
	b.WriteString(constants(t, "socket/reasons.go", ofType("Reason")))
	b.WriteString("\n## Why a handshake is refused\n\nThe label of `realtime_sockets_refused_total`; a refused token's is its code, as above.\n\n| reason | |\n|---|---|\n")
	b.WriteString(constants(t, "socket/reasons.go", called("Refused")) + constants(t, "connect.go", called("refused")))
	b.WriteString("\n## Why a channel ends\n\nThe `reason` of the log line `channel ended`.\n\n| reason | |\n|---|---|\n")
	b.WriteString(constants(t, "hub/hub.go", ofType("End")))
	return b.String()
}

func cell(texts []string) string { return strings.ReplaceAll(strings.Join(texts, "<br>"), "|", `\|`) }

func places(e protocol.Entry) string {
	var where []string
	for place, name := range map[protocol.Place]string{
		protocol.InJoinReply: "join reply", protocol.InPushReply: "push reply", protocol.InSystem: "system message",
		protocol.InREST: "REST",
	} {
		if e.Where&place != 0 {
			where = append(where, name)
		}
	}
	slices.Sort(where)
	if e.Where&protocol.InClose != 0 {
		where = append(where, fmt.Sprintf("close %d", e.Close))
	}
	return strings.Join(where, ", ")
}

func ofType(name string) func(*ast.ValueSpec) bool {
	return func(spec *ast.ValueSpec) bool {
		of, ok := spec.Type.(*ast.Ident)
		return ok && of.Name == name
	}
}

func called(prefix string) func(*ast.ValueSpec) bool {
	return func(spec *ast.ValueSpec) bool { return strings.HasPrefix(spec.Names[0].Name, prefix) }
}

// constants lists those constants of a file that are wanted, with the comments behind them.
func constants(t *testing.T, path string, wanted func(*ast.ValueSpec) bool) string {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !wanted(spec) {
			return true
		}
		value := strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)
		fmt.Fprintf(&b, "| `%s` | %s |\n", value, strings.TrimSpace(spec.Comment.Text()))
		return true
	})
	return b.String()
}

func metricsPage() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n`GET /metrics` on `ADMIN_ADDR`, in Prometheus' text form, beside those of the Go runtime and the process.\n\n" +
		"| name | labels | |\n|---|---|---|\n")
	var lines []string
	descriptions := make(chan *prometheus.Desc, 1000)
	metrics.New().Registry.Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		text := d.String() // the only way to a description's parts
		name, help := between(text, `fqName: "`, `"`), between(text, `help: "`, `"`)
		labels := strings.Trim(between(text, "variableLabels: {", "}"), " ")
		if strings.HasPrefix(name, "realtime_") {
			lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |\n", name, labels, help))
		}
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

func between(text, after, before string) string {
	_, text, _ = strings.Cut(text, after)
	text, _, _ = strings.Cut(text, before)
	return text
}

// TestRefusalsAreNamed: a reason that is no constant is in no list of the documentation.
func TestRefusalsAreNamed(t *testing.T) {
	t.Parallel()
	unnamed := regexp.MustCompile(`Refusal\{[^}]*(Reason: |, )"[^"]*"\}`)
	eachGoFile(t, func(path string, source []byte) {
		if found := unnamed.Find(source); found != nil && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s: %s", path, found)
		}
	})
}
