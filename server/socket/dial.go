package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/coder/websocket"
)

// Client is the other end of a socket, for the program's own tools.
type Client struct{ ws *websocket.Conn }

// ClosedError is how the server ended a socket.
type ClosedError struct {
	Code   int
	Reason string
}

func (e *ClosedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the server closed the socket (%d)", e.Code)
	}
	return fmt.Sprintf("the server closed the socket (%d): %s", e.Code, e.Reason)
}

// maxRefusalBody bounds what is read of the answer to a handshake that failed.
const maxRefusalBody = 4 << 10

// Dial opens a socket to a server; a frame may have up to maxFrame bytes. Errors do not repeat the address, which holds a
// token.
func Dial(ctx context.Context, address string, maxFrame int64) (*Client, error) {
	ws, answer, err := websocket.Dial(ctx, address, nil)
	var request *url.Error
	switch {
	case err == nil:
		ws.SetReadLimit(maxFrame)
		return &Client{ws}, nil
	case answer != nil && answer.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server answered %s%s", answer.Status, refusalText(answer.Body))
	case errors.As(err, &request):
		return nil, request.Err
	}
	return nil, err
}

// refusalText is what a server of ours says beside the status.
func refusalText(body io.Reader) string {
	var said struct{ Error string }
	text, err := io.ReadAll(io.LimitReader(body, maxRefusalBody))
	if err != nil || json.Unmarshal(text, &said) != nil || said.Error == "" {
		return ""
	}
	return ": " + said.Error
}

// Read waits for the next frame. The error is a ClosedError where the server said that it ends.
func (c *Client) Read(ctx context.Context) (binary bool, data []byte, err error) {
	kind, data, err := c.ws.Read(ctx)
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		err = &ClosedError{int(closed.Code), closed.Reason}
	}
	return kind == websocket.MessageBinary, data, err
}

// Write sends a text frame.
func (c *Client) Write(ctx context.Context, data []byte) error {
	return c.ws.Write(ctx, websocket.MessageText, data)
}

// Close ends the socket in order, or drops it if the server does not answer soon.
func (c *Client) Close() { _ = c.ws.Close(websocket.StatusNormalClosure, "") }
