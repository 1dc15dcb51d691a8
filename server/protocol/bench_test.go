package protocol_test

import (
	"strings"
	"testing"

	"rowcast/server/protocol"
)

// text is a payload that makes frames of about 220 bytes, a usual broadcast.
var text = `{"type":"broadcast","event":"message","payload":{"user":"3f0c6f0e","body":"` + strings.Repeat("lorem ", 16) + `"}}`

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct {
		name    string
		version protocol.Version
		binary  bool
		frame   []byte
	}{
		{"v1", protocol.V1, false, []byte(`{"topic":"` + room + `","event":"broadcast","payload":` + text + `,"ref":"7","join_ref":"6"}`)},
		{"v2", protocol.V2, false, []byte(`["6","7","` + room + `","broadcast",` + text + `]`)},
		{"v2 binary JSON", protocol.V2, true, push("6", "7", room, "message", "", 1, text)},
		{"v2 binary bytes", protocol.V2, true, push("6", "7", room, "message", "", 0, text)},
		{"v2 heartbeat", protocol.V2, false, []byte(`[null,"13","phoenix","heartbeat",{}]`)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.frame)))
			for b.Loop() {
				if _, err := protocol.Decode(bb.version, bb.binary, bb.frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	user := protocol.UserBroadcast{Event: "message", Encoding: protocol.JSON, Payload: []byte(text)}
	b.Run("encode both versions", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := protocol.NewUserBroadcast(room, user)
			if err != nil {
				b.Fatal(err)
			}
			if f.Bytes(protocol.V1) == nil || f.Bytes(protocol.V2) == nil {
				b.Fatal("not carried")
			}
		}
	})
	b.Run("bytes again", func(b *testing.B) {
		b.ReportAllocs()
		f := protocol.TextBroadcast(room, []byte(text))
		for b.Loop() {
			if f.Bytes(protocol.V2) == nil {
				b.Fatal("not carried")
			}
		}
	})
}

func BenchmarkReply(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if protocol.HeartbeatReply(protocol.V2, `"13"`) == nil {
			b.Fatal("nothing")
		}
	}
}
