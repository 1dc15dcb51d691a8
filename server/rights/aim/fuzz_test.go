package aim_test

import (
	"strings"
	"testing"

	"rowcast/server/rights/aim"
)

// known are facts about one table, for expressions that come from anywhere.
func known(expressions ...string) aim.Facts {
	return aim.Facts{
		Policies: []aim.Policy{{Table: name("realtime.messages"), Name: "p", Expressions: expressions}},
		Tables: []aim.Table{
			{Name: name("realtime.messages"), Kind: "p", Columns: []aim.Column{{Name: "topic", Type: "text", Plain: true}, {Name: "extension", Type: "text", Plain: true}}},
			{Name: name(members), Kind: "r", Columns: []aim.Column{{Name: "user_id", Type: "uuid", Plain: true}, {Name: "slug", Type: "text", Plain: true}, {Name: "muted", Type: "bool", Plain: true}}},
		},
		Functions: []aim.Function{{Name: name("auth.uid"), Body: "RETURN (NULLIF((auth.jwt() ->> 'sub'::text), ''::text))::uuid"}, {Name: name("auth.jwt"), Body: "select current_setting('request.jwt.claims', true)::jsonb;"}},
	}
}

// A text without the comparison, or with an OR, a NOT or a call beside it, in whatever disguise, is no reason for a proposal.
func FuzzPropose(f *testing.F) {
	for _, s := range shapes {
		for _, using := range s.using {
			f.Add(using)
		}
	}
	for _, text := range []string{
		"(EXISTS ( SELECT\n   FROM app.members m\n  WHERE (m.user_id = auth.uid())))",
		"(EXISTS ( SELECT 1 FROM (app.members m JOIN app.members n ON ((n.slug = m.slug))) WHERE ((m.user_id = auth.uid()) AND (n.user_id = ( SELECT auth.uid() AS uid)))))",
		"(auth.uid() IN ( SELECT m.user_id FROM app.members m))", "CASE WHEN true THEN E'a\\\\b' ELSE 'it''s' END", `"a""b".c::"x"."y"[]`, "(((", "NOT NOT NOT", "1.5::numeric(10,2)", "/* */ --", "e'\\'",
		strings.Repeat("(", 300), strings.Repeat("NOT ", 300), strings.Repeat("- ", 300),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := aim.Propose(known(text))[name(members)]
		if p.Subject == "" && p.Topic == "" {
			if p.Reason == "" {
				t.Errorf("%q: no proposal, and no reason", text)
			}
			return
		}
		low := strings.ToLower(text)
		if !strings.Contains(low, "members") || !strings.Contains(low, "=") && !strings.Contains(low, "in") {
			t.Errorf("%q: %+v of nothing", text, p)
		}
		if p.Subject != "" && (p.Subject != "user_id" && p.Subject != "slug" || !strings.Contains(low, "sub") && !strings.Contains(low, "auth")) {
			t.Errorf("%q: the subject %+v", text, p)
		}
		// Whatever is read beside it, unseen or compared with nothing, takes the proposal away.
		for _, beside := range []string{
			"(" + text + ") or app.opaque()",
			"(" + text + ") and exists (select from app.members other)",
			"exists (select from app.members other where other.user_id is not null or (" + text + "))",
			"not (auth.uid() in (select other.user_id from app.members other)) and (" + text + ")",
		} {
			if p := aim.Propose(known(beside))[name(members)]; p.Subject != "" || p.Topic != "" {
				t.Errorf("%q: %+v", beside, p)
			}
		}
	})
}
