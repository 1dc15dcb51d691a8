package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"rowcast/server/explain"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

func TestExplainCommand(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	env := []string{"DATABASE_URL=" + db.PoolURL}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // the first line
	}{
		{"a member", []string{"--topic", "room:1", "--sub", aliceID}, exitGood,
			"authenticated sub=" + aliceID + " may receive and send on room:1: receive: policy \"room members receive\" is true"},
		{"as on the wire", []string{"--topic", "realtime:room:1", "--sub", aliceID}, exitGood, "authenticated sub=" + aliceID + " may receive and send on room:1"},
		{"muted", []string{"--topic", "room:1", "--sub", carolID}, exitGood, "authenticated sub=" + carolID + " on room:1: broadcast: may receive but not send ("},
		{"a stranger", []string{"--topic", "room:1", "--sub", daveID}, exitFinding, "authenticated sub=" + daveID + " may neither receive nor send on room:1: receive: none of the policies "},
		{"another role", []string{"--topic", "announcements", "--role", "anon"}, exitGood, "anon on announcements: broadcast: may receive but not send ("},
		{"the role of the claims", []string{"--topic", "announcements", "--claims", `{"role": "anon", "n": 12345678901234567890}`}, exitGood, "anon on announcements: "},
		{"steering the terminal", []string{"--topic", "x\x1b[2J\ny", "--role", "anon"}, exitFinding, "anon may neither receive nor send on x\ufffd[2J\ufffdy: "},
	} {
		got := runProgram(t, env, append([]string{"explain"}, test.args...)...)
		first, _, _ := strings.Cut(got.out, "\n")
		if got.code != test.code || !strings.HasPrefix(first, test.want) {
			t.Errorf("%s: code %d, %s\n%s", test.name, got.code, first, got.errout)
		}
		if refused := test.code == exitFinding; refused != strings.HasPrefix(got.errout, "rowcast explain: "+strings.TrimSuffix(test.want, ": receive: none of the policies ")) {
			t.Errorf("%s: on stderr: %s", test.name, got.errout)
		}
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--sub", "a"}, "give --topic"},
		{[]string{"--topic", "realtime:", "--sub", "a"}, "the question has no topic"},
		{[]string{"--topic", "a", "--claims", "[]"}, "the question has claims that are no JSON object"},
		{[]string{"--topic", "a", "--claims", "{} {}"}, "the question has claims that are no JSON object"},
		{[]string{"--topic", "a\x00", "--sub", "a"}, "the question holds a NUL character"},
		{[]string{"--topic", "a", "--claims", `{"x": "\u0000"}`}, "the question cannot be asked"},
	} {
		if got := runProgram(t, env, append([]string{"explain"}, test.args...)...); got.code != exitUsage || !strings.Contains(got.errout, test.want) || got.out != "" {
			t.Errorf("%q: %+v", test.args, got)
		}
	}
	if got := runProgram(t, []string{"DATABASE_URL=" + pgtest.NewEmpty(t).URL}, "explain", "--topic", "a"); got.code != exitFinding || !strings.Contains(got.errout, "run rowcast migrate up") {
		t.Errorf("without the schema: %+v", got)
	}
}

// A token of a role that is not in ALLOWED_ROLES is refused before any policy is asked; so is the explanation.
func TestExplainKnowsAllowedRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.NewRole(t, "nologin")
	if _, err := db.Admin.Exec(t.Context(), `grant `+role+` to `+pgtest.ServerRole+`; grant select, insert on realtime.messages to `+role+`;
		create policy everything on realtime.messages to public using (true)`); err != nil {
		t.Fatal(err)
	}
	args := []string{"explain", "--topic", "x", "--role", role}
	want := "may neither receive nor send on x: role " + role + " is not in ALLOWED_ROLES of the server"
	if got := runProgram(t, []string{"DATABASE_URL=" + db.URL}, args...); got.code != exitFinding || !strings.Contains(got.errout, want) {
		t.Errorf("%+v", got)
	}
	start(t, db, func(c *Config) { c.AllowedRoles = append(c.AllowedRoles, role) })
	if got := runProgram(t, []string{"DATABASE_URL=" + db.URL}, args...); got.code != exitGood {
		t.Errorf("of a server that allows it: %+v", got)
	}
	if got := runProgram(t, []string{"DATABASE_URL=" + db.URL}, "explain", "--topic", "x"); got.code != exitGood {
		t.Errorf("another role: %+v", got)
	}
}

func TestExplainTakesNoPolicyForItsOwnWord(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `create policy "p`+"\x1b[31m"+`" on realtime.messages using (topic = E'\n\x1b' or topic = 'x');
		create function public.once() returns boolean language plpgsql as $$ begin perform set_config('public.asked', 'yes', true); return false; end $$;
		create policy z on realtime.messages using (topic = 'twice' and public.once());
		create policy a on realtime.messages using (topic = 'twice' and current_setting('public.asked', true) = 'yes')`); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, []string{"DATABASE_URL=" + db.URL}, "explain", "--topic", "x")
	if strings.Contains(got.out, "\x1b") || got.code != exitGood {
		t.Errorf("%+v", got)
	}
	got = runProgram(t, []string{"DATABASE_URL=" + db.URL}, "explain", "--topic", "twice")
	if got.code != exitFinding || !strings.Contains(got.errout, "leads to another verdict") || !strings.Contains(got.out, "\ndifference  receive broadcast  decide ") {
		t.Errorf("a difference: %+v", got)
	}
}

// A policy that sleeps is cut by the timer and named, and the next question is answered as if nothing had been.
func TestExplainAfterAPolicyThatSleeps(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := db.Admin.Exec(t.Context(), `create policy sleeps on realtime.messages using (topic = 'awake' or topic = 'asleep' and pg_sleep(600) is not null)`); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.Open(t.Context(), db.PoolURL, 1) // so that the next question is asked on the same connection
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	report, err := explain.Ask(t.Context(), pool, explain.Question{Topic: "asleep", Subject: "u1"})
	if err != nil {
		t.Fatal(err)
	}
	slept := slices.ContainsFunc(report.Rows, func(row explain.Row) bool {
		return row.Name == "sleeps" && row.Value == "unknown 57014: canceling statement due to statement timeout"
	})
	decided := slices.ContainsFunc(report.Rows, func(row explain.Row) bool { return row.Subject == "server" && row.Value != "" })
	if !slept || decided || report.Receive || report.Send || report.Differs {
		t.Errorf("%+v", report)
	}
	for _, want := range []string{"on asleep: broadcast: is not decided (", `policy "sleeps" has not answered: canceling statement due to statement timeout`} {
		if !strings.Contains(report.Summary, want) {
			t.Errorf("the summary %q does not say %q", report.Summary, want)
		}
	}
	next, err := explain.Ask(t.Context(), pool, explain.Question{Topic: "awake", Subject: "u1"})
	if err != nil || !next.Receive || !next.Send || next.Differs {
		t.Errorf("the next: %+v, %v", next, err)
	}
}

func TestExplainOverHTTP(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	r := start(t, db, nil)
	admin, public := r.admin.Addr().String(), r.public.Addr().String()
	ask := func(method, to, body string, headers ...string) (int, explain.Report, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+to+"/api/explain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
			if headers[i] == "Host" {
				request.Host = headers[i+1]
			}
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %q: pages may read it", method, headers)
		}
		var report explain.Report
		if response.StatusCode == http.StatusOK {
			if err := json.Unmarshal(text, &report); err != nil {
				t.Fatal(err)
			}
		}
		return response.StatusCode, report, string(text)
	}

	const question = `{"topic": "realtime:room:1", "sub": "` + carolID + `", "claims": {"role": "authenticated"}}`
	status, report, text := ask("POST", admin, question)
	if status != http.StatusOK || !report.Receive || report.Send || report.Differs || !strings.Contains(report.Summary, "may receive but not send") || len(report.Rows) < 20 {
		t.Errorf("%d %s", status, text)
	}
	port := admin[strings.LastIndex(admin, ":"):]
	for _, test := range []struct {
		name, method, body string
		headers            []string
		want               int
	}{
		{"by name", "POST", question, []string{"Host", "localhost" + port}, 200},
		{"a form", "POST", question, []string{"Content-Type", "text/plain"}, 415},
		{"a form of another kind", "POST", question, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"nothing said", "POST", question, []string{"Content-Type", ""}, 415},
		{"a name that leads here", "POST", question, []string{"Host", "attacker.example" + port}, 403},
		{"the same without a port", "POST", question, []string{"Host", "attacker.example"}, 403},
		{"a look-alike", "POST", question, []string{"Host", "127.0.0.1.attacker.example" + port}, 403},
		{"another page", "POST", question, []string{"Origin", "http://attacker.example"}, 403},
		{"a page of another port", "POST", question, []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"a page without origin", "POST", question, []string{"Origin", "null"}, 403},
		{"across sites", "POST", question, []string{"Sec-Fetch-Mode", "cors"}, 403},
		{"asking first", "OPTIONS", "", []string{"Origin", "http://attacker.example", "Access-Control-Request-Method", "POST"}, 405},
		{"a link", "GET", "", nil, 405},
		{"no JSON", "POST", "topic=a", nil, 400},
		{"something else", "POST", `{"topic": "a", "password": "x"}`, nil, 400},
		{"two questions", "POST", question + question, nil, 400},
		{"no topic", "POST", `{"sub": "a"}`, nil, 422},
		{"claims that are a list", "POST", `{"topic": "a", "claims": []}`, nil, 422},
		{"without end", "POST", `{"topic": "` + strings.Repeat("a", 100000) + `"}`, nil, 413},
	} {
		if status, _, text := ask(test.method, admin, test.body, test.headers...); status != test.want {
			t.Errorf("%s: %d %.200s, want %d", test.name, status, text, test.want)
		}
	}
	for _, path := range []string{public, public + "/realtime/v1"} {
		if status, _, text := ask("POST", path, question); status != http.StatusNotFound {
			t.Errorf("clients: %d %s", status, text)
		}
	}
}
