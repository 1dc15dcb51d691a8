package hub

import "rowcast/server/protocol"

// picture is what one subscription knows of who is present: a presence_state, and every presence_diff after it. A diff
// means nothing without what was before it, so one that is kept from a subscription keeps all the others, up to the next
// state.
type picture struct {
	asked bool // a state has come: diffs from here on are of use, once those before them have passed
	whole bool // a state has passed, and all since
}

// wants tells whether a frame that arrives can be of use.
func (p *picture) wants(f *protocol.Frame) bool {
	if f.IsPresenceState() {
		p.asked = true
	}
	return p.asked || f.Extension() != protocol.ExtensionPresence
}

// add tells whether a frame that may pass goes with what has passed before it.
func (p *picture) add(f *protocol.Frame) bool {
	if f.IsPresenceState() {
		p.whole = true
	}
	return p.whole || f.Extension() != protocol.ExtensionPresence
}

// tear takes a frame out that is withheld; false if it is no part of the picture.
func (p *picture) tear(f *protocol.Frame) bool {
	if f.Extension() != protocol.ExtensionPresence {
		return false
	}
	p.whole = false
	return true
}

// settle is called when nothing waits any more; torn tells that what was asked for is not there.
func (p *picture) settle() (torn bool) {
	torn = p.asked && !p.whole
	p.asked = p.whole
	return torn
}
