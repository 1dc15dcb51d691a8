package feed

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"rowcast/server/snapshot"
)

// FuzzParse: anyone may notify. What is read says what the payload says, in the one form that the triggers write; whatever
// else comes is refused, or reads as a mark, which only has rights asked again.
func FuzzParse(f *testing.F) {
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	for _, seed := range []string{
		"m 1 2 " + uuid, "m 18446744073709551615 -9223372036854775808 " + uuid, "m 1 2 " + strings.ToUpper(uuid), "m 1 2 " + uuid + " ", "m +1 2 " + uuid,
		"m  1 2 " + uuid, "m 1 2", `r {"x":"1","s":"a","t":"b","l":true}`, `r {"X":"1","S":"a"}`, `r {"s":"a","s":"b"}`, `r {"s":5}`, `r {"s":"a","k":"` + uuid + `"}`, `r {"x":"-1"}`, "r {}", "r null", "r []", "r",
		`r {"s":"\ud800"}`, "h " + strings.Repeat("A", nonceLength), "h ", "d 1 " + uuid, "d 1 2 " + uuid, "d 01 " + uuid, "d 1", "d", "x", "", " ", "m", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		h, err := parse(payload)
		if err != nil {
			if h.kind != 0 || h.token != (token{}) || h.nonce != "" || len(err.Error()) > 500 {
				t.Fatalf("%q is refused (%v), and leaves %+v", payload, err, h)
			}
			return
		}
		switch h.kind {
		case hintMessage:
			var x, seq string
			fmt.Sscanf(payload, "m %s %s", &x, &seq)
			// Of the token the case of its digits is free: what is compared are its bytes.
			if again := fmt.Sprintf("m %s %s %s", x, seq, h.token); again != payload[:len(payload)-36]+strings.ToLower(payload[len(payload)-36:]) ||
				strings.TrimLeft(x, "0") != strings.TrimLeft(fmt.Sprint(h.entry.xid), "0") {
				t.Fatalf("%q reads as %+v", payload, h)
			}
		case hintMark:
			var want struct {
				X, S, T string
				L       bool
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(payload, "r ")), &want); err != nil {
				t.Fatalf("%q is accepted: %v", payload, err)
			}
			xid, _ := snapshot.ParseXID(want.X)
			if !reflect.DeepEqual(h.mark, Mark{XID: xid, Subject: want.S, Topic: want.T, Lenient: want.L}) || !utf8.ValidString(h.mark.Subject+h.mark.Topic) {
				t.Fatalf("%q reads as %+v", payload, h.mark)
			}
		case hintDisconnect:
			x, _, _ := strings.Cut(strings.TrimPrefix(payload, "d "), " ")
			if again := fmt.Sprintf("d %s %s", x, h.token); again != payload[:len(payload)-36]+strings.ToLower(payload[len(payload)-36:]) ||
				strings.TrimLeft(x, "0") != strings.TrimLeft(fmt.Sprint(h.entry.xid), "0") || h.entry.seq != noPlace {
				t.Fatalf("%q reads as %+v", payload, h)
			}
		case hintFence:
			if payload != "h "+h.nonce || len(h.nonce) != nonceLength {
				t.Fatalf("%q reads as %+v", payload, h)
			}
		default:
			t.Fatalf("%q passes for the feed's own %v", payload, h.kind)
		}
	})
}
