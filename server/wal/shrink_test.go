package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// frame is a message from Postgres.
func frame(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// data is a message of pgoutput as it comes.
func data(message []byte) []byte {
	return frame('d', append(append([]byte{'w'}, make([]byte, walHeader-1)...), message...))
}

// tuple is a row: "" is NULL, "~" unchanged.
func tuple(kind byte, values ...string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(values)))
	for _, v := range values {
		switch v {
		case "":
			b = append(b, 'n')
		case "~":
			b = append(b, 'u')
		default:
			b = append(binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(v))), v...)
		}
	}
	return b
}

// change is a message about a row of relation 7.
func change(kind byte, tuples ...[]byte) []byte {
	return append([]byte{kind, 0, 0, 0, 7}, bytes.Join(tuples, nil)...)
}

// said is a message of pg_logical_emit_message.
func said(prefix, content string) []byte {
	b := append([]byte{'M', 1, 0, 0, 0, 0, 0, 0, 0, 9}, prefix...)
	return append(binary.BigEndian.AppendUint32(append(b, 0), uint32(len(content))), content...)
}

func long(n int) string { return strings.Repeat("x", n) }

func TestShrinker(t *testing.T) {
	t.Parallel()
	const limit = 300
	keepalive, notice := frame('d', append([]byte{'k'}, make([]byte, 17)...)), frame('N', []byte(long(5000)))
	relation := data([]byte("R" + long(5000)))
	cut := func(message []byte, from string) []byte { // what remains when the values of this text are left out
		value := append(binary.BigEndian.AppendUint32([]byte{'t'}, uint32(len(from))), from...)
		return bytes.ReplaceAll(message, value, []byte{byte(TooLarge)})
	}
	large := long(1000)
	for name, tt := range map[string]struct{ in, want []byte }{
		"small":             {data(change('I', tuple('N', "1", "", "~", long(100)))), nil},
		"at the limit":      {data(change('I', tuple('N', long(limit-13)))), nil},
		"above it":          {data(change('I', tuple('N', long(limit-12)))), data(cut(change('I', tuple('N', long(limit-12))), long(limit-12)))},
		"not rows":          {bytes.Join([][]byte{notice, relation, keepalive}, nil), nil},
		"insert":            {data(change('I', tuple('N', "1", "", large, "~", long(64)))), data(cut(change('I', tuple('N', "1", "", large, "~", long(64))), large))},
		"update, old row":   {data(change('U', tuple('O', "1", large), tuple('N', "2", large))), data(cut(change('U', tuple('O', "1", large), tuple('N', "2", large)), large))},
		"update, key":       {data(change('U', tuple('K', "1", ""), tuple('N', "2", large))), data(cut(change('U', tuple('K', "1", ""), tuple('N', "2", large)), large))},
		"delete":            {data(change('D', tuple('O', "1", large))), data(cut(change('D', tuple('O', "1", large)), large))},
		"message":           {data(said("realtime", large)), data(said("realtime", ""))},
		"message of others": {data(said(large, "short")), data(said(long(shortValue), ""))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tt.want
			if want == nil {
				want = tt.in
			}
			in, want := bytes.Join([][]byte{keepalive, tt.in, keepalive, tt.in}, nil), bytes.Join([][]byte{keepalive, want, keepalive, want}, nil)
			for how, r := range map[string]io.Reader{
				"at once":        bytes.NewReader(in),
				"byte by byte":   iotest.OneByteReader(bytes.NewReader(in)),
				"half by half":   iotest.HalfReader(bytes.NewReader(in)),
				"end with bytes": iotest.DataErrReader(bytes.NewReader(in)),
			} {
				got, err := io.ReadAll(newShrinker(r, limit))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v; want %d", how, len(got), err, len(want))
				}
			}
		})
	}
}

// What has come is given, though nothing follows it.
func TestShrinkerDoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	for _, message := range [][]byte{frame('Z', []byte{'I'}), frame('n', nil), data(change('I', tuple('N', long(1000))))} {
		r, w := io.Pipe()
		go func() {
			_, _ = w.Write(message)
			_, _ = w.Write(message)
		}()
		s := newShrinker(r, 300)
		want, err := io.ReadAll(newShrinker(bytes.NewReader(message), 300))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := io.ReadFull(s, make([]byte, len(want))); err != nil { // or never returns
				t.Errorf("read %q: %v", message[:1], err)
			}
		}
		_ = r.Close()
	}
}

// A row that is cut off or contradicts itself ends the stream; it does not become another row.
func TestShrinkerRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	whole := data(change('I', tuple('N', "1", long(1000))))
	tooFew, tooMany := bytes.Clone(whole), bytes.Clone(whole)
	tooFew[frameHeader+walHeader+1+4+1+1] = 1 // columns
	tooMany[frameHeader+walHeader+1+4+1+1] = 3
	for name, in := range map[string][]byte{"fewer columns": tooFew, "more columns": tooMany} {
		if _, err := io.ReadAll(newShrinker(bytes.NewReader(in), 300)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := io.ReadAll(newShrinker(bytes.NewReader(whole[:len(whole)-1]), 300)); len(got) > 0 || err == nil {
		t.Errorf("of a row that is cut off %d bytes are read (%v)", len(got), err)
	}
}

// What is read does not depend on how it comes, and is what was sent where nothing is too large.
func FuzzShrinker(f *testing.F) {
	f.Add(bytes.Join([][]byte{frame('Z', []byte{'I'}), data(change('U', tuple('O', "1", long(400)), tuple('N', "~", ""))), frame('N', nil)}, nil), uint16(30), uint8(7))
	f.Add(data(said("realtime", long(200))), uint16(1), uint8(1))
	f.Add(data(said(long(200), "x"))[:150], uint16(100), uint8(64))
	f.Add(data(change('D', tuple('K', long(65), long(64)))), uint16(20), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, limit uint16, step uint8) {
		once, onceErr := io.ReadAll(newShrinker(bytes.NewReader(in), int(limit)))
		slow := newShrinker(iotest.OneByteReader(bytes.NewReader(in)), int(limit))
		var parts []byte
		part := make([]byte, int(step)+1)
		for {
			n, err := slow.Read(part)
			parts = append(parts, part[:n]...)
			if err != nil {
				if (err == io.EOF) != (onceErr == nil) {
					t.Errorf("read at once: %v; in parts: %v", onceErr, err)
				}
				break
			}
		}
		if !bytes.Equal(once, parts) {
			t.Errorf("read at once: %q; in parts: %q", once, parts)
		}
		if whole, _ := io.ReadAll(newShrinker(bytes.NewReader(in), 0)); !bytes.HasPrefix(in, whole) {
			t.Errorf("without a limit %q is read as %q", in, whole)
		}
	})
}

// What remains of a row that is too large reads as the row itself, but for its long values.
func FuzzShrunkRows(f *testing.F) {
	f.Add([]byte("1\x00~\x00"+long(70)+"\x00\x00end"), uint8(0), uint16(10))
	f.Add([]byte(long(64)+"\x00"+long(65)), uint8(1), uint16(60))
	f.Add([]byte("a\x00b\x00"+long(500)), uint8(2), uint16(1))
	f.Add([]byte(long(90)), uint8(3), uint16(50))
	f.Fuzz(func(t *testing.T, text []byte, shape uint8, limit uint16) {
		values := strings.Split(string(text), "\x00")
		if len(values) > 1600 || limit == 0 {
			return
		}
		message := [][]byte{
			change('I', tuple('N', values...)), change('D', tuple('K', values...)),
			change('U', tuple('N', values...)), change('U', tuple('O', values...), tuple('N', values...)),
		}[shape%4]
		d := decoder{relations: map[uint32]*Relation{7: {Columns: make([]Column, len(values))}}}
		want, err := d.change(message)
		if err != nil {
			t.Fatal(err)
		}
		if len(message) > int(limit) {
			for _, row := range [][]Value{want.Old, want.New} {
				for i, v := range row {
					if len(v.Text) > shortValue {
						row[i], want.Large = Value{Kind: TooLarge}, true
					}
				}
			}
		}
		shrunk, err := io.ReadAll(newShrinker(bytes.NewReader(data(message)), int(limit)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.change(shrunk[frameHeader+walHeader:])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", message, diff)
		}
	})
}

// Whatever comes is a change or an error.
func FuzzDecode(f *testing.F) {
	f.Add(change('I', tuple('N', "1", "")))
	f.Add(change('U', tuple('K', "1", ""), tuple('N', "2", "~")))
	f.Add(change('D', tuple('O', "1", "x")))
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) == 0 || !bytes.ContainsRune([]byte("IUD"), rune(message[0])) {
			return
		}
		d := decoder{relations: map[uint32]*Relation{7: {Columns: make([]Column, 2)}}}
		c, err := d.change(message)
		if err == nil && (c.Relation == nil || (c.Kind == Delete) != (c.New == nil)) {
			t.Errorf("%q is %+v", message, c)
		}
	})
}
