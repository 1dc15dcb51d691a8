package protocol

// broadcastHeader is kind, three sizes (topic, event, metadata) and the encoding.
const broadcastHeader = 5

// DecodeServer reads one frame of a server, of version 2.0.0, as a client does. A user broadcast in binary is in Push. The
// error is a DecodeError.
func DecodeServer(binary bool, data []byte) (Message, error) {
	switch {
	case !binary:
		return Decode(V2, false, data)
	case len(data) == 0:
		return Message{}, ErrTruncated
	case data[0] != kindBroadcast:
		return Message{}, ErrKind
	case len(data) < broadcastHeader:
		return Message{}, ErrTruncated
	}
	var part [3][]byte
	rest := data[broadcastHeader:]
	for i := range part {
		size := int(data[1+i])
		if size > len(rest) {
			return Message{}, ErrTruncated
		}
		part[i], rest = rest[:size], rest[size:]
	}
	return Message{Topic: string(part[0]), Event: EventBroadcast, Push: &UserBroadcast{
		Event: string(part[1]), Meta: part[2], Encoding: Encoding(data[4]), Payload: rest,
	}}, nil
}
