package api

import (
	"bytes"
	"encoding/json"
	"net/http"

	"rowcast/server/protocol"
)

// encode writes JSON for programs, not for pages: nothing is escaped that JSON does not want so.
func encode(value any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // texts, lists and maps of them always encode
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// message is the body of most answers.
func message(text string) []byte { return encode(map[string]string{"message": text}) }

// refuse is a refusal in the usual words of its code.
func refuse(status int, code protocol.Code, args ...any) answer {
	return answer{status: status, body: message(code.Text(args...)), code: code}
}

// invalid is the refusal of a request of which a field is not as it should be.
func invalid(code protocol.Code, field, reason string) answer {
	return answer{
		status: http.StatusUnprocessableEntity, code: code, sends: 1,
		body: encode(map[string]any{"errors": map[string][]string{field: {reason}}}),
	}
}

// later tells the caller when to come again.
func (c *call) later() { c.w.Header().Set("Retry-After", "1") }

func tooMany(c *call, text string, sends int) answer {
	c.later()
	return answer{status: http.StatusTooManyRequests, body: message(text), code: protocol.MessagePerSecondRateLimitReached, sends: sends}
}

func busy(c *call) answer {
	c.later()
	return refuse(http.StatusTooManyRequests, protocol.ServerBusy)
}

func away(why string) answer {
	return answer{status: http.StatusServiceUnavailable, body: message(why), code: protocol.RealtimeRestarting}
}
