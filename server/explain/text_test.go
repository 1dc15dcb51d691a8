package explain_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/explain"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	policy := explain.Row{Subject: "policy", Action: "send", Name: "p\x1b", Value: "true", Sentence: "is true", Kind: "permissive", Roles: "public", Expression: "(a\n  AND b)"}
	broadcast, presence, long := policy, policy, policy
	broadcast.Extension, presence.Extension = "broadcast", "presence"
	long.Name, long.Value, long.Expression = "long", "error P0001: "+strings.Repeat("x", 100), strings.Repeat("é", 3000)
	report := explain.Report{Summary: "anon may\nnot", Rows: []explain.Row{
		{Subject: "role", Name: "exists", Value: "true", Sentence: "role anon exists"},
		broadcast, presence, long,
		{Subject: "summary", Sentence: "anon may not"},
	}}
	want := "anon may\ufffdnot\n\n" +
		"role                    exists  true  role anon exists\n" +
		"policy  send broadcast  p\ufffd      true  permissive, to public: is true\n" +
		"policy  send presence   p\ufffd      true  permissive, to public: is true\n" +
		"    (a AND b)\n" +
		"policy  send            long    error P0001: " + strings.Repeat("x", 100) + "  permissive, to public: is true\n" +
		"    " + strings.Repeat("é", 2000) + " …\n"
	var got strings.Builder
	if err := report.Print(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}
