package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// goThrough has a crowd visit a server and returns what it said, phase by phase.
func goThrough(t *testing.T, p plan) ([]report, error) {
	t.Helper()
	p.Path = socketPath
	stop, end := pipe(t)
	var all []report
	err := generate(p, int(stop.Fd()), func(r report) error {
		if all = append(all, r); r.About == reportReady {
			fmt.Fprintln(end)
		}
		return nil
	})
	return all, err
}

// The floor knows no presence, and carries the same broadcasts.
func TestCrowdOnTheFloor(t *testing.T) {
	t.Parallel()
	p := plan{Address: floorAt(t), Sessions: spread(60, 6, "t"), Process: os.Getpid(), Crowd: &crowding{Messages: 16, Patience: time.Minute}}
	all, err := goThrough(t, p)
	if err != nil || len(all) != 2 || all[0].About != reportReady || all[1].About != reportTalked {
		t.Fatalf("%+v, %v", all, err)
	}
	if r := all[1]; r.Deliveries != 6*10*10*16 || r.Cut != 0 || r.Faults.any() || r.Told != (told{}) {
		t.Errorf("%+v", r)
	}
}

// alone is a server for rooms of one who is present, which a test makes wrong: wrong may answer instead, nil for no change.
type alone struct {
	wrong func(client int, event, right string) string
}

func (a alone) answer(client int, r request) []byte {
	topic, event := string(r.topic), string(r.event)
	message := func(event, payload, ref string) string {
		return string(textFrame(fmt.Appendf(nil, `{"event":"%s","payload":%s,"ref":%s,"topic":"%s"}`, event, payload, ref, topic)))
	}
	reply := func(ref string) string { return message("phx_reply", `{"status":"ok","response":{}}`, `"`+ref+`"`) }
	first, second := presentIn(1, presentMeta{0, '1', refOf("a")}), presentIn(1, presentMeta{0, '2', refOf("b")})
	right := ""
	switch {
	case event == "":
		right = string(appendFrame(nil, opClose, nil, false))
	case event == "phx_join":
		right = reply("1") + message("presence_state", "{}", "null")
	case event == "phx_leave":
		right = reply("5") + message("phx_close", "{}", `"1"`)
	case event == "broadcast":
		right = string(textFrame(relayed(r)))
	case strings.Contains(string(r.payload), `"turn":"1"`):
		right = reply("3") + message("presence_diff", `{"joins":`+first+`,"leaves":{}}`, "null")
	default:
		event = "change"
		right = reply("4") + message("presence_diff", `{"joins":`+second+`,"leaves":`+first+`}`, "null")
	}
	if a.wrong != nil {
		right = a.wrong(client, event, right)
	}
	return []byte(right)
}

func crowdOfOnes(address string, n int) plan {
	p := plan{Address: address, Private: true, Crowd: &crowding{Presence: true, Messages: 2, Patience: 300 * time.Millisecond}}
	for i := range n {
		p.Sessions = append(p.Sessions, session{fmt.Sprintf("realtime:room:%d", i), "t", seatKey(0, 1)})
	}
	return p
}

func TestCrowdGoesThroughAllPhases(t *testing.T) {
	t.Parallel()
	all, err := goThrough(t, crowdOfOnes(scripted(t, alone{}.answer), 7))
	var abouts []string
	for _, r := range all {
		abouts = append(abouts, r.About)
		if r.Cut > 0 || r.Faults.any() {
			t.Errorf("%+v", r)
		}
	}
	if err != nil || !slices.Equal(abouts, []string{reportReady, reportTalked, reportHalved, reportDone}) {
		t.Fatalf("%q, %v", abouts, err)
	}
	// A state and a change for each, then another change.
	if a, b := all[0].Told, all[1].Told; a.Frames != 14 || a.Changes != 14 || b.Frames != 7 || b.Changes != 7 || b.Bytes == 0 || all[1].Deliveries != 14 {
		t.Errorf("%+v, %+v, %d deliveries", a, b, all[1].Deliveries)
	}
}

// What a server may get wrong under load is counted, and ends the visit after its phase.
func TestFaultsOfACrowdAreCounted(t *testing.T) {
	t.Parallel()
	on := func(event string, change func(right string) string) func(int, string, string) string {
		return func(client int, e, right string) string {
			if client != 1 || e != event {
				return right
			}
			return change(right)
		}
	}
	nothing := func(string) string { return "" }
	again := func(right string) string { return right + right }
	only := func(ending string) func(string) string { // of several frames
		return func(right string) string {
			frames := strings.SplitAfter(right, `"}`+"\x81")
			if ending == "first" {
				return strings.TrimSuffix(frames[0], "\x81")
			}
			return "\x81" + frames[len(frames)-1]
		}
	}
	system1 := string(textFrame([]byte(`{"event":"system","payload":{},"ref":null,"topic":"realtime:room:1"}`)))
	closed1 := string(textFrame([]byte(`{"event":"phx_close","payload":{},"ref":"1","topic":"realtime:room:1"}`)))
	for name, tt := range map[string]struct {
		wrong func(int, string, string) string
		kind  fault
		count int
		last  string // phase
	}{
		"messages swallowed":  {on("broadcast", nothing), lost, 2, reportTalked},
		"messages twice":      {on("broadcast", again), twice, 2, reportTalked},
		"answer swallowed":    {on("change", only("last")), lost, 1, reportTalked},
		"no diff":             {on("change", only("first")), wrongPicture, 1, reportTalked},
		"diff again":          {on("change", again2), mistold, 2, reportTalked},
		"no state":            {on("phx_join", only("first")), wrongPicture, 1, reportReady},
		"system":              {on("broadcast", func(right string) string { return right + system1 }), system, 2, reportTalked},
		"closed":              {on("change", func(right string) string { return right + closed1 }), closed, 1, reportTalked},
		"phx_leave swallowed": {on("phx_leave", nothing), notEnded, 1, reportHalved},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := goThrough(t, crowdOfOnes(scripted(t, alone{tt.wrong}.answer), 2))
			if err != nil || len(all) == 0 {
				t.Fatal(err)
			}
			r := all[len(all)-1]
			if got := r.Faults.Counts[tt.kind]; got != tt.count || r.About != tt.last || r.Faults.First == "" {
				t.Errorf("%q: %s", r.About, &r.Faults)
			}
		})
	}
}

// again2 repeats the last frame of two.
func again2(right string) string {
	return right + right[strings.LastIndexByte(right, '\x81'):]
}

// What comes late is heard, and out of order.
func TestDisorderInACrowd(t *testing.T) {
	t.Parallel()
	kept := ""
	all, err := goThrough(t, crowdOfOnes(scripted(t, alone{func(client int, event, right string) string {
		if event == "broadcast" && kept == "" {
			kept = right
			return ""
		}
		if event == "broadcast" {
			return right + kept
		}
		return right
	}}.answer), 1))
	if err != nil || len(all) != 2 || all[1].Faults.Counts[disordered] != 1 || all[1].Faults.Counts[lost] != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What no correct server says to a crowd ends the run.
func TestWrongServersOfACrowdAreFound(t *testing.T) {
	t.Parallel()
	replace := func(event, what, by string) func(int, string, string) string {
		return func(_ int, e, right string) string {
			if e != event || !strings.Contains(right, what) || len(what) != len(by) {
				return right
			}
			return strings.Replace(right, what, by, 1)
		}
	}
	for want, wrong := range map[string]func(int, string, string) string{
		"nobody sent there":           replace("broadcast", "room:0", "room:1"),
		"a broadcast that nobody":     replace("broadcast", `-0000000000"`, `-0000000099"`),
		"cannot be read":              replace("change", `"phx_ref":`, `"phx_rex":`),
		"reply that nobody asked for": replace("change", `"ref":"4"`, `"ref":"5"`),
		"refused":                     replace("change", `"status":"ok"`, `"status":"no"`),
		"unexpected message":          replace("change", `presence_diff`, `presence_dizz`),
		"closed: ": func(_ int, event, right string) string {
			if event == "phx_leave" {
				return right + string(textFrame([]byte(`{"event":"broadcast"}`)))
			}
			return right
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := goThrough(t, crowdOfOnes(scripted(t, alone{wrong}.answer), 1))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

// A socket that ends ends the visit.
func TestCutInACrowd(t *testing.T) {
	t.Parallel()
	all, err := goThrough(t, crowdOfOnes(scripted(t, func(client int, r request) []byte {
		if string(r.event) == "broadcast" && client == 1 {
			return nil
		}
		return alone{}.answer(client, r)
	}), 3))
	if err != nil || len(all) != 2 || all[1].Cut != 1 || all[1].Why == "" {
		t.Errorf("%+v, %v", all, err)
	}
}
