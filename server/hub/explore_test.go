package hub

import (
	"fmt"
	"hash/maphash"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The exploration plays small scenes in every order that causes allow: transactions commit, the feed hears, questions are
// asked, Postgres looks, answers arrive, clients send, join, leave and change their claims, connections are lost. It is
// the hub's own worker that is taken through them, and each state is looked at once.

// explorer goes through the states of a scene, depth first.
type explorer struct {
	scene       *scene
	seeds       [2]maphash.Seed
	paths       map[[2]uint64]float64 // to the end, from states that were left; -1: on the way to here
	transitions int
	rests       int // states in which nothing goes on by itself
	deepest     int
	way         []step
	found       []string
}

func explore(c *scene) *explorer {
	c.prepare()
	e := &explorer{scene: c, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, paths: map[[2]uint64]float64{}}
	e.visit(newState(c))
	return e
}

// visit gives the number of ways from a state to an end.
func (e *explorer) visit(s *state) float64 {
	s.check()
	steps, must := s.steps(nil)
	if must == 0 {
		s.checkRest()
	}
	if s.found != "" {
		e.fail(s.found)
		return 0
	}
	b := s.key(make([]byte, 0, 256))
	key := [2]uint64{maphash.Bytes(e.seeds[0], b), maphash.Bytes(e.seeds[1], b)}
	switch paths, seen := e.paths[key]; {
	case seen && paths < 0:
		e.fail("goes round in a circle, and is never decided")
		return 0
	case seen:
		return paths
	}
	e.paths[key] = -1
	e.deepest = max(e.deepest, len(e.way))
	if must == 0 {
		e.rests++
	}
	paths := 0.0
	if len(steps) == 0 {
		paths = 1
	}
	for _, next := range steps {
		if len(e.found) > 0 {
			break
		}
		e.transitions++
		e.way = append(e.way, next)
		n := s.clone()
		n.do(next)
		paths += e.visit(n)
		e.way = e.way[:len(e.way)-1]
	}
	e.paths[key] = paths
	return paths
}

func (e *explorer) fail(what string) {
	var way []string
	for _, s := range e.way {
		way = append(way, s.String())
	}
	e.found = append(e.found, fmt.Sprintf("%s\n\t%s", what, strings.Join(way, "\n\t")))
}

func TestEveryOrderOfEvents(t *testing.T) {
	t.Parallel()
	chosen := scenes()
	if os.Getenv("EXPLORE") == "all" {
		chosen = append(chosen, largeScenes()...)
	}
	for _, c := range chosen {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := explore(c)
			t.Logf("%d states, %d transitions, %.3g paths of up to %d steps; %d states in which all is decided", len(e.paths), e.transitions, e.paths[e.first()], e.deepest, e.rests)
			for _, found := range e.found {
				t.Error(found)
			}
		})
	}
}

// first is the key of where it all begins.
func (e *explorer) first() [2]uint64 {
	b := newState(e.scene).key(nil)
	return [2]uint64{maphash.Bytes(e.seeds[0], b), maphash.Bytes(e.seeds[1], b)}
}

// What the exploration copies and compares is named here: a new field has to be dealt with in clone and key. It sets no
// barriers, and only these read gate.answered.
func TestExplorationKnowsEveryField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of    any
		known string
	}{
		{worker{}, "options log later number rooms subjects held deaf refusing silences catchUp barrier unsettled rechecks turns outlets delivered writing"},
		{Subscription{}, "room outlet subject member gate history place counted held unsettled expiry turn rechecked"},
		{gate{}, "state rights was since waiting bytes marks markedAt round asking asked answered asks paced pace picture lost deafAt doubted overtaken missed"},
		{waiting{}, "frame xid first last mixed strict seen"},
		{heardMark{}, "xid nth"},
		{history{}, "awaited last page given behind bytes"},
		{expiry{}, "sub at timer"},
		{marking{}, "mark mixed more many heard"},
		{Mark{}, "XID Subject Topic Lenient Seen"},
	} {
		typ := reflect.TypeOf(tt.of)
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; !slices.Contains(strings.Fields(tt.known), name) {
				t.Errorf("%s.%s is not known to clone and key of the exploration", typ.Name(), name)
			}
		}
	}
}
