package socket

// Reason says why a socket ended. It is one word, the same in the log, in the metric's label and in Handler.Closed.
type Reason string

const (
	ClientClosed  Reason = "client_closed"  // the client sent a close frame
	ClientGone    Reason = "client_gone"    // the connection ended without a close frame
	Idle          Reason = "idle"           // nothing was received for IDLE_TIMEOUT
	Unused        Reason = "unused"         // the client had no channel for NO_CHANNEL_TIMEOUT
	SlowReader    Reason = "slow_reader"    // more than MAX_QUEUE_BYTES, or for longer than MAX_QUEUE_AGE, waited for the client
	WriteTimeout  Reason = "write_timeout"  // the client took nothing for ten seconds
	FrameTooBig   Reason = "frame_too_big"  // the client sent more than MAX_FRAME_BYTES in one message
	FrameTooSlow  Reason = "frame_too_slow" // one message took longer than IDLE_TIMEOUT to arrive
	ProtocolError Reason = "protocol_error" // the client broke RFC 6455
	Disconnected  Reason = "disconnected"   // the database said realtime.disconnect() of the user
	Restarting    Reason = "restarting"     // the server is going down, or another one serves now; come back
	InternalError Reason = "internal_error" // the handler panicked
)

// Reasons for which a handshake is refused before Options.Open is asked; Open gives its own in a Refusal.
const (
	RefusedHandshake = "bad_handshake"     // no GET, or not the headers of an upgrade
	RefusedDraining  = "restarting"        // the server is going down
	RefusedFull      = "limit_connections" // MAX_CONNECTIONS is reached
	RefusedOrigin    = "origin"            // the page's origin is not in ALLOWED_ORIGINS
	RefusedUpgrade   = "upgrade_failed"    // the HTTP connection could not be taken over
)

// Close codes of RFC 6455, section 7.4.1, as far as this package sends them itself.
const (
	codeNormal        = 1000
	codeProtocolError = 1002
	codeNotText       = 1007
	codePolicy        = 1008
	codeTooBig        = 1009
	codeInternal      = 1011
	codeRestart       = 1012
	codeTryLater      = 1013 // of the registry that the RFC began
)
