package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func refOf(text string) (ref [refSize]byte) {
	copy(ref[:], text+"----------------")
	return ref
}

// presentIn is how the server writes who is present.
func presentIn(seats int, metas ...presentMeta) string {
	byKey := map[string][]json.RawMessage{}
	for _, m := range metas {
		meta := strings.TrimSuffix(seatMeta(m.seat, m.turn), "}") + fmt.Sprintf(`,"phx_ref":"%s"`, m.ref)
		if m.turn != '1' {
			meta += `,"phx_ref_prev":"AAAAAAAAAAAAAAAA"`
		}
		key := seatKey(m.seat, seats)
		byKey[key] = append(byKey[key], json.RawMessage(meta+"}"))
	}
	all := map[string]map[string][]json.RawMessage{}
	for key, metas := range byKey {
		all[key] = map[string][]json.RawMessage{"metas": metas}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestReadingPresence(t *testing.T) {
	t.Parallel()
	want := []presentMeta{{0, '1', refOf("a")}, {2, '2', refOf("b")}, {3, '1', refOf("c")}}
	text := presentIn(4, want...)
	if !strings.Contains(text, `"seat-02":{"metas":[{"seat":"02",`) || strings.Contains(text, "seat-03") {
		t.Fatalf("the last two have no key in common: %s", text)
	}
	read := func(text string) (metas []presentMeta, rest string, ok bool) {
		r := presenceReader{rest: []byte(text), seats: 4}
		r.present(func(m presentMeta) { metas = append(metas, m) })
		return metas, string(r.rest), !r.wrong
	}
	if got, rest, ok := read(text + ",more"); !ok || rest != ",more" || !slices.Equal(got, want) {
		t.Errorf("%v, %q, %t of %s", got, rest, ok, text)
	}
	if got, _, ok := read("{}"); !ok || len(got) != 0 {
		t.Errorf("nobody: %v, %t", got, ok)
	}
	for i := range len(text) { // no part of it is whole
		if _, _, ok := read(text[:i]); ok {
			t.Errorf("took %s", text[:i])
		}
	}
	for _, change := range [][2]string{
		{`"seat-00"`, `"seat-01"`}, {`"seat":"03"`, `"seat":"04"`}, {`"seat":"00"`, `"seat":"0x"`}, {`,"seat-02"`, `"seat-02"`},
		{`phx_ref"`, `phx_rex"`}, {`{"metas":[`, `{"metas":[]`}, {`},{`, `}{`}, {`"1"`, `"11"`},
	} {
		if bad := strings.Replace(text, change[0], change[1], 1); bad == text {
			t.Errorf("%s is nowhere in %s", change[0], text)
		} else if _, _, ok := read(bad); ok {
			t.Errorf("took %s", bad)
		}
	}
}

func TestPictures(t *testing.T) {
	t.Parallel()
	var p picture
	a, b, c := presentMeta{0, '1', refOf("a")}, presentMeta{1, '1', refOf("b")}, presentMeta{0, '2', refOf("c")}
	turns := func(text string) []byte { return []byte(strings.ReplaceAll(text, "-", "\x00")) }
	is := func(want string) {
		t.Helper()
		for _, tt := range []string{"---", "1--", "11-", "21-", "-1-", "2--", "111"} {
			if p.is(turns(tt)) != (tt == want) {
				t.Errorf("%v is %s: %t", p, tt, tt != want)
			}
		}
	}
	is("---")
	if !p.join(a) || !p.join(b) || p.join(b) || !p.has(1) || p.has(2) {
		t.Error(p)
	}
	is("11-")
	other := picture{b, a}
	if !p.same(other) || p.same(other[:1]) || other[:1].same(p) || p.same(picture{b, c}) {
		t.Error("what is the same is not, or the reverse")
	}
	if !p.join(c) {
		t.Error(p)
	}
	is("nobody: one seat is there twice")
	if !p.leave(a) || p.leave(a) || (picture{c, {2, '1', refOf("d")}}).String() != "2-1" {
		t.Error(p)
	}
	is("21-")
	if !p.leave(c) || !p.leave(b) || p.leave(b) {
		t.Error(p)
	}
	is("---")
}
