package main

import (
	"bytes"
	"fmt"
)

// presentMeta is what one member of a room is present with, as the others are told.
type presentMeta struct {
	seat int  // its number in the room
	turn byte // '1', and another digit once it has tracked again
	ref  [refSize]byte
}

const refSize = 16

// seatKey is the key of a seat. The last two of a room have the same, as the two devices of one person have.
func seatKey(seat, seats int) string { return fmt.Sprintf("seat-%02d", keySeat(seat, seats)) }

func keySeat(seat, seats int) int { return min(seat, max(0, seats-2)) }

// seatMeta is what a seat tracks.
func seatMeta(seat int, turn byte) string {
	return fmt.Sprintf(`{"seat":"%02d","turn":"%c"}`, seat, turn)
}

// picture is whom a client knows to be present, kept as clients do: by the references of what was tracked. There are so few
// that a list is fastest.
type picture []presentMeta

// join is false if that is known already, and leave if it is not.
func (p *picture) join(m presentMeta) bool {
	if p.find(m.ref) >= 0 {
		return false
	}
	*p = append(*p, m)
	return true
}

func (p *picture) leave(m presentMeta) bool {
	i := p.find(m.ref)
	if i < 0 {
		return false
	}
	last := len(*p) - 1
	(*p)[i] = (*p)[last]
	*p = (*p)[:last]
	return true
}

func (p picture) find(ref [refSize]byte) int {
	for i := range p {
		if p[i].ref == ref {
			return i
		}
	}
	return -1
}

func (p picture) has(seat int) bool {
	for i := range p {
		if p[i].seat == seat {
			return true
		}
	}
	return false
}

// is tells whether exactly those are present who have a turn, each once and with that.
func (p picture) is(turns []byte) bool {
	var seen uint64
	for _, m := range p {
		if m.seat >= len(turns) || turns[m.seat] != m.turn || seen&(1<<m.seat) != 0 {
			return false
		}
		seen |= 1 << m.seat
	}
	return len(p) == len(turns)-bytes.Count(turns, []byte{0})
}

// String is the turns by seat, as a party has them; a seat that is there twice is told once.
func (p picture) String() string {
	turns := make([]byte, 0, len(p))
	for _, m := range p {
		for m.seat >= len(turns) {
			turns = append(turns, '-')
		}
		turns[m.seat] = m.turn
	}
	return string(turns)
}

// same tells whether both know the same references.
func (p picture) same(other picture) bool {
	for _, m := range p {
		if other.find(m.ref) < 0 {
			return false
		}
	}
	return len(p) == len(other)
}

// presenceReader reads JSON in the one form that the server writes presence in. It stops at what it does not understand.
type presenceReader struct {
	rest  []byte
	seats int
	wrong bool
}

// is takes a text off the rest if it is next, and need wants it to be.
func (r *presenceReader) is(text string) bool {
	if r.wrong || len(r.rest) < len(text) || string(r.rest[:len(text)]) != text {
		return false
	}
	r.rest = r.rest[len(text):]
	return true
}

func (r *presenceReader) need(text string) {
	if !r.is(text) {
		r.wrong = true
	}
}

// take is the next n bytes.
func (r *presenceReader) take(n int) []byte {
	if r.wrong || len(r.rest) < n {
		r.wrong = true
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// present reads members by their keys: {"seat-00":{"metas":[…]},…}
func (r *presenceReader) present(each func(presentMeta)) {
	r.need("{")
	for first := true; !r.wrong && !r.is("}"); first = false {
		if !first {
			r.need(",")
		}
		r.need(`"seat-`)
		key := r.number()
		r.need(`":{"metas":[`)
		for more := true; more && !r.wrong; more = r.is(",") {
			if m := r.meta(key); !r.wrong {
				each(m)
			}
		}
		r.need(`]}`)
	}
}

func (r *presenceReader) meta(key int) (m presentMeta) {
	r.need(`{"seat":"`)
	m.seat = r.number()
	r.need(`","turn":"`)
	m.turn = r.take(1)[0]
	r.need(`","phx_ref":"`)
	copy(m.ref[:], r.take(refSize))
	r.need(`"`)
	if r.is(`,"phx_ref_prev":"`) {
		r.take(refSize)
		r.need(`"`)
	}
	r.need(`}`)
	if m.seat >= r.seats || key != keySeat(m.seat, r.seats) {
		r.wrong = true
	}
	return m
}

// number reads two digits.
func (r *presenceReader) number() int {
	digits := r.take(2)
	tens, ones := digits[0]-'0', digits[1]-'0'
	if tens > 9 || ones > 9 {
		r.wrong = true
	}
	return int(tens)*10 + int(ones)
}
