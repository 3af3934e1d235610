package rpcproxy

import "time"

// Codec is what the loop must know of a protocol's frames. Its methods keep nothing of what they are handed, change no frame save
// where they say so, and are safe for concurrent use. All of them but Measure and Read are handed only frames that Read has taken.
type Codec interface {
	// Name is that of the protocol, as mesh.Request has it.
	Name() string
	// Measure tells how long the frame is that b begins with; 0: there is not enough of it yet to tell. An error ends the
	// connection, whatever would come next.
	Measure(b []byte) (int, error)
	// Read fills in what f.Bytes says, which is one whole frame. An error ends the connection.
	Read(f *Frame) error
	// Describe reads what a request is for. The error is the answer to the request alone.
	Describe(frame []byte, h *Head) error
	// Header is the value of a request's header, or "".
	Header(frame []byte, name string) string
	// AppendRequest appends a request to b, with this id and these headers changed. On an error b is as it was.
	AppendRequest(b, frame []byte, id uint64, e Edit) ([]byte, error)
	// SetID writes an id over that of a frame.
	SetID(frame []byte, id uint64)
	// AppendHeartbeat appends a heartbeat that its receiver answers.
	AppendHeartbeat(b []byte, id uint64) []byte
	// AppendAlive appends the answer to the heartbeat f.
	AppendAlive(b []byte, f *Frame) []byte
	// AppendLeave appends what has the other side send no more requests; with sidecar, that is another sidecar. b as it is: the
	// protocol has nothing of the kind that this peer would understand.
	AppendLeave(b []byte, sidecar bool) []byte
	// AppendError appends the loop's own answer to a request. For another sidecar it holds besides what that one's Read makes
	// Frame.Peer of.
	AppendError(b, frame []byte, e *Error, sidecar bool) []byte
	// AppendUnserved appends the answer to a request that a server has sent us, or leaves b as it is.
	AppendUnserved(b []byte, f *Frame) []byte
}

// Kind is what a frame is.
type Kind uint8

// The kinds of frames.
const (
	Request   Kind = iota
	Oneway         // a request that is not answered
	Response       // to a request
	Heartbeat      // is answered
	Alive          // answers a heartbeat
	Leave          // its sender wants no more requests
	Ignored        // says nothing to us
)

// Frame is one message. Bytes is the reader's: valid during the call that the frame is handed to.
type Frame struct {
	Bytes   []byte
	Kind    Kind
	ID      uint64
	Timeout time.Duration // of a request: how long its caller waits; 0: it does not say
	Status  int           // of a response: the protocol's own number
	Code    int           // of a response: the gRPC status code that comes nearest
	Failed  bool          // the response is not the service's: its server did not handle the request
	Gone    bool          // it says that something is not served, or not any more
	About   []byte        // what: SERVICE:VERSION[:GROUP], or an address that has stopped; nil: what the request is for
	Peer    *Error        // the response is another sidecar's own
}

// Head is what a request is for.
type Head struct {
	Service, Version, Group, Method string
	Timeout                         time.Duration // as in Frame, where it stands further in
	Strings                         *Strings      // makes the strings; nil: each is a new one
}

// Header is one that is set.
type Header struct{ Name, Value string }

// Edit is what is changed in a request's headers: those that begin with Strip go, then Set are added.
type Edit struct {
	Strip string
	Set   []Header
}

// Strings makes strings of bytes, the same one for the same bytes as far as it remembers. For one goroutine at a time.
type Strings struct{ seen map[string]string }

const (
	maxStrings = 1024 // that are remembered
	maxString  = 256  // bytes of one that is
)

// Of is b as a string.
func (s *Strings) Of(b []byte) string {
	if s == nil || len(b) > maxString {
		return string(b)
	}
	if text, ok := s.seen[string(b)]; ok {
		return text
	}
	text := string(b)
	if s.seen == nil {
		s.seen = map[string]string{}
	}
	if len(s.seen) < maxStrings {
		s.seen[text] = text
	}
	return text
}
