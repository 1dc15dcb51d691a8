package main

import (
	"fmt"
	"strings"
)

// fault is what must not come to pass in a crowd, however large.
type fault int

const (
	lost         fault = iota // messages that were not heard by somebody, and questions without an answer
	twice                     // messages heard again
	disordered                // messages heard after a later one of the same sender
	wrongPicture              // clients that do not know who is present
	mistold                   // changes of presence that do not fit what a client was told before
	closed                    // channels that ended
	system                    // messages of the server that something is wrong
	notEnded                  // sockets that wanted to leave and were not let go as they should
	faultKinds
)

var faultNames = [faultKinds]string{"lost", "heard twice", "out of order", "wrong pictures", "wrongly told", "closed", "system messages", "wrongly ended"}

// faults are counted; of the first it is kept what it was.
type faults struct {
	Counts [faultKinds]int
	First  string
}

// keptFault is as much as is needed to see what it is.
const keptFault = 500

func (f *faults) add(kind fault, n int, what string) {
	if n <= 0 {
		return
	}
	if !f.any() {
		f.First = fmt.Sprintf("%s: %.*s", faultNames[kind], keptFault, what)
	}
	f.Counts[kind] += n
}

func (f *faults) any() bool { return f.Counts != [faultKinds]int{} }

func (f *faults) String() string {
	var all []string
	for kind, n := range f.Counts {
		if n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, faultNames[kind]))
		}
	}
	return fmt.Sprintf("%s; the first: %s", strings.Join(all, ", "), f.First)
}
