package auth

import (
	"strings"
	"testing"
	"time"
)

func TestLaneGroupsRoles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, queue string // a letter is a role and what is asked, a capital one asks alone
		max         int
		want        string // the batches
	}{
		{"one role", "aaaaa", 3, "aaa aa"},
		{"alternating", "abababab", 4, "aaaa bbbb"},
		{"filled up with others", "abcab", 4, "aabc b"},
		{"the first is always served", "baaaaaa", 3, "baa aaa a"},
		{"alone", "aAabB", 4, "aab A B"},
		{"alone and first", "Aab", 4, "A ab"},
		{"one at a time", "abA", 1, "a b A"},
		{"no farther than the lookahead", "a" + strings.Repeat("b", maxBatch*lookahead-1) + "a", 2, "ab" + strings.Repeat(" bb", maxBatch*lookahead/2-1) + " a"},
		{"alone, with who asks the same", "AbaA", 4, "AA ba"},
		{"one at a time, with who asks the same", "abab", 1, "aa bb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var l lane
			l.init()
			for _, role := range test.queue {
				l.put(&ask{Request: Request{Topic: string(role), Claims: Claims{Role: strings.ToLower(string(role))}}, single: role < 'a'})
			}
			var got []string
			for len(l.asks) > 0 {
				batch := ""
				for _, a := range l.take(test.max) {
					role := a.Claims.Role
					if a.single {
						role = strings.ToUpper(role)
					}
					batch += role
				}
				got = append(got, batch)
			}
			if got := strings.Join(got, " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// What differs in anything that a policy may see is another question.
func TestDistinct(t *testing.T) {
	t.Parallel()
	first := Request{Topic: "t", Headers: "{}", Claims: Claims{Role: "r", Raw: []byte(`{"sub":"u"}`)}}
	var batch []*ask
	for _, change := range []func(*Request){
		func(*Request) {},
		func(r *Request) { r.Topic = "x" },
		func(r *Request) { r.Headers = `{"x":""}` },
		func(r *Request) { r.Claims.Role = "x" },
		func(r *Request) { r.Claims.Raw = []byte(`{"sub":"v"}`) },
		func(r *Request) { r.Presence = true },
		func(r *Request) { r.Claims.Subject, r.OverREST = "who else", true }, // policies see neither
	} {
		r := first
		change(&r)
		batch = append(batch, &ask{Request: r})
	}
	questions, which := distinct(batch)
	if len(questions) != 6 || which[6] != 0 {
		t.Errorf("%d questions, %v", len(questions), which)
	}
}

// Of the ends of an answer's parts the first counts, and none is farther off than clocks can be believed.
func TestAnAnswerEndsWithItsFirstPart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		parts []float64 // seconds
		want  time.Duration
	}{
		{[]float64{60, 3600}, time.Minute},
		{[]float64{3600, 60}, time.Minute},
		{[]float64{1e12}, maxUntil},
		{[]float64{-5}, -5 * time.Second},
	} {
		var a Answer
		for _, seconds := range tt.parts {
			a.endAt(seconds)
		}
		if got := time.Until(a.Until); got > tt.want || got < tt.want-30*time.Second {
			t.Errorf("%v: in %s, want %s", tt.parts, got, tt.want)
		}
	}
}
