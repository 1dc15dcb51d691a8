package feed

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rowcast/server/snapshot"
)

func at(t *testing.T, snap string, h history, processes ...int32) position {
	t.Helper()
	s, err := snapshot.Parse(snap)
	if err != nil {
		t.Fatal(err)
	}
	return position{s, h, processes}
}

// Which moment a new connection begins at. There are moments at 0, 30, 60, 90 and 120 seconds.
func TestWhereToGoOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		snapshot  string
		history   history
		processes []int32
		from      string
		same      bool
		err       error
	}{
		{"nothing happened", "900:900:", history{"a", "1", "noon"}, []int32{7, 8}, "500:500:", true, nil},
		{"a process came and one went", "900:900:", history{"a", "1", "noon"}, []int32{6, 8, 9}, "500:500:", true, nil},
		{"Postgres crashed", "900:900:", history{"a", "1", "noon"}, []int32{17, 18}, "300:300:", false, nil},
		{"it was started anew", "900:900:", history{"a", "1", "midnight"}, []int32{7, 8}, "300:300:", false, nil},
		{"a standby was promoted", "900:900:", history{"a", "2", "noon"}, []int32{7, 8}, "300:300:", false, nil},
		{"… that was behind", "450:450:", history{"a", "2", "noon"}, []int32{7, 8}, "300:300:", false, nil},
		{"… by more than is remembered", "250:250:", history{"a", "2", "noon"}, []int32{7, 8}, "0:0:", false, errRewound},
		{"an older copy of the files", "250:250:", history{"a", "1", "midnight"}, nil, "0:0:", false, errRewound},
		{"another database", "900:900:", history{"b", "1", "noon"}, []int32{7, 8}, "0:0:", false, errOtherDatabase},
	}
	for _, tt := range tests {
		start := time.Now()
		s := newSeen()
		s.begin(at(t, "100:100:", history{"a", "1", "noon"}, 7, 8), start)
		for i := 1; i <= 4; i++ {
			p := at(t, fmt.Sprintf("%[1]d:%[1]d:", 100*(i+1)), history{})
			s.advance(p.snapshot, start.Add(time.Duration(i)*30*time.Second))
		}
		s.advance(s.floor().snapshot, start.Add(121*time.Second)) // of the moments a minute old the last is enough
		from, same, err := s.resume(at(t, tt.snapshot, tt.history, tt.processes...))
		if from.snapshot.String() != tt.from || same != tt.same || !errors.Is(err, tt.err) {
			t.Errorf("%s: from %s, same %t, %v; want %s, %t, %v", tt.name, from.snapshot, same, err, tt.from, tt.same, tt.err)
		}
	}
}

// A history that went on without a break is the same again the next time, though what came before the break is not.
func TestBreakIsPast(t *testing.T) {
	t.Parallel()
	s := newSeen()
	s.begin(at(t, "100:100:", history{"a", "1", "noon"}, 7), time.Now())
	s.advance(at(t, "200:200:", history{}).snapshot, time.Now())
	for i, want := range []bool{false, true} {
		from, same, err := s.resume(at(t, "300:300:", history{"a", "2", "noon"}, 7))
		if err != nil || same != want || from.snapshot.String() != "100:100:" {
			t.Errorf("connection %d: from %s, same %t, %v", i, from.snapshot, same, err)
		}
	}
}

// Heartbeats may meet on their way.
func TestFloorNeverGoesBack(t *testing.T) {
	t.Parallel()
	s, now := newSeen(), time.Now()
	s.begin(at(t, "100:100:", history{}), now)
	for _, told := range []string{"200:200:", "150:150:"} {
		s.advance(at(t, told, history{}).snapshot, now)
	}
	if got := s.floor().snapshot.String(); got != "200:200:" {
		t.Errorf("the floor is %s", got)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	s, start := newSeen(), time.Now()
	s.begin(at(t, "100:100:", history{}), start)
	n := 0
	for second := range 600 {
		for range 2000 {
			n++
			s.add(wanted{entry{snapshot.XID(100 + second), int64(n)}, token{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}})
		}
		s.advance(at(t, fmt.Sprintf("%[1]d:%[1]d:", 101+second), history{}).snapshot, start.Add(time.Duration(second)*time.Second))
		if len(s.delivered) > maxDelivered || len(s.moments) > 130 {
			t.Fatalf("after %d s: %d messages, %d moments", second, len(s.delivered), len(s.moments))
		}
	}
	if age := start.Add(599 * time.Second).Sub(s.moments[0].at); age < settled || age > 2*settled {
		t.Errorf("the oldest moment is %v old", age)
	}
	for second := range 30 {
		for range 20000 {
			n++
			s.add(wanted{entry{snapshot.XID(700 + second), int64(n)}, token{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}})
		}
		s.advance(at(t, fmt.Sprintf("%[1]d:%[1]d:", 701+second), history{}).snapshot, start.Add(time.Duration(600+second)*time.Second))
		if len(s.delivered) > maxDelivered {
			t.Fatalf("after %d busy seconds: %d messages", second, len(s.delivered))
		}
	}
	if !s.has(wanted{token: token{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}}) {
		t.Error("the last message is not remembered")
	}
	if _, known := s.delivered[token{1}]; known || !s.has(wanted{entry{100, 1}, token{1}}) {
		t.Errorf("the first message: remembered %t; it passes for news", known)
	}
}

// A mark that was heard is known by its token and its aim. Whoever repeats the token cannot make it another.
func TestMarksAreKnownAgain(t *testing.T) {
	t.Parallel()
	s := newSeen()
	s.begin(at(t, "100:100:", history{}), time.Now())
	one, other := token{1}, token{2}
	s.hear(one, Mark{XID: 101, Subject: "u"})
	s.hear(one, Mark{XID: 101, Subject: "forged"})
	s.hear(token{}, Mark{XID: 101, Subject: "lenient"})
	for _, tt := range []struct {
		token token
		mark  Mark
		want  bool
	}{
		{one, Mark{XID: 101, Subject: "u"}, true},
		{one, Mark{Subject: "u", Topic: "t"}, false},
		{one, Mark{Subject: "forged"}, false},
		{one, Mark{Topic: "u"}, false},
		{other, Mark{XID: 101, Subject: "u"}, false},
		{token{}, Mark{XID: 101, Subject: "lenient"}, false},
	} {
		if got := s.heard(tt.token, tt.mark); got != tt.want {
			t.Errorf("%v %+v: %t", tt.token[0], tt.mark, got)
		}
	}
	for i := range 3 * maxMarks {
		s.hear(token{3, byte(i), byte(i >> 8), byte(i >> 16)}, Mark{})
	}
	if len(s.marks) > maxMarks {
		t.Errorf("%d marks are remembered", len(s.marks))
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const text = "01234567-89ab-cdef-0123-456789abcdef"
	got, err := parseToken(text)
	if err != nil || got.String() != text {
		t.Errorf("%s: %v", got, err)
	}
	for _, text := range []string{"", text[1:], text + "0", "0123456-789ab-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef0000", "g1234567-89ab-cdef-0123-456789abcdef"} {
		if _, err := parseToken(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
