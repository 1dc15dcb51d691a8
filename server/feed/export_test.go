package feed

// HearForTest is what the listener calls.
func (f *Feed) HearForTest(payload string) {
	f.hear(payload)
	f.inbox = f.inbox[:0]
}
