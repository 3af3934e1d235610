package grpcproxy

import (
	"context"
	"sync"
	"time"
)

// Call is the context of a local call.
type Call struct {
	m        *Method
	c        *conn
	id       uint32
	fields   []Field
	deadline int64
	body     []byte // as far as it is here; the 5 bytes before the message included
	bodyBuf  *[]byte
	header   []Field
	trailer  []Field
	tag      any
	start    int64
	sent     int
	slow     bool    // it is the Slow handler's now
	s        *stream // made of it, since it waits for something
	size     int     // bytes of the request, where body does not have it

	mu    sync.Mutex
	done  chan struct{}
	err   error
	timer *time.Timer
}

type callKey struct{}

// FromContext finds the call that ctx is or stems from.
func FromContext(ctx context.Context) *Call {
	if k, ok := ctx.(*Call); ok {
		return k
	}
	k, _ := ctx.Value(callKey{}).(*Call)
	return k
}

// Path is /service/method.
func (k *Call) Path() string { return (&Headers{Fields: k.fields}).Path() }

// Metadata is the first value of that name.
func (k *Call) Metadata(name string) string {
	for i := range k.fields {
		if k.fields[i].Name == name {
			return k.fields[i].Value
		}
	}
	return ""
}

// Fields are the request's headers, valid during the call.
func (k *Call) Fields() []Field { return k.fields }

// Headers are the request's, valid during the call, with what is known of its connection.
func (k *Call) Headers() Headers {
	return Headers{Fields: k.fields, Conn: k.c.nc, ConnTag: k.c.tag, Tag: k.tag, c: k.c}
}

// ConnTag is what OnConn said of the connection.
func (k *Call) ConnTag() any { return k.c.tag }

// Blocking tells whether the method is.
func (k *Call) Blocking() bool { return k.m.Blocking }

// MayWait tells whether the handler has a goroutine of its own; else it is the connection's reader that runs it.
func (k *Call) MayWait() bool { return k.m.Blocking || k.slow }

// Tag is that of the Outcome.
func (k *Call) Tag() any { return k.tag }

// SetHeader adds to the answer's headers, SetTrailer to its trailers. Both are the handler's goroutine's alone, until it returns.
func (k *Call) SetHeader(n, v string) { k.header = append(k.header, newField(n, v)) }

// SetTrailer is told of at SetHeader.
func (k *Call) SetTrailer(n, v string) { k.trailer = append(k.trailer, newField(n, v)) }

// Deadline is that of the request, if it brought one. With Done, Err and Value it makes the call a context.
func (k *Call) Deadline() (time.Time, bool) {
	return epoch.Add(time.Duration(k.deadline)), k.deadline != 0
}

// Done makes the channel when it is first asked for.
func (k *Call) Done() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done == nil {
		k.done = make(chan struct{})
		if k.err != nil {
			close(k.done)
		} else if k.deadline != 0 {
			k.timer = time.AfterFunc(time.Duration(k.deadline)-time.Since(epoch), func() { k.cancel(context.DeadlineExceeded) })
		}
	}
	return k.done
}

// Err is nil until the call has ended for its client, or its deadline has passed.
func (k *Call) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil && k.deadline != 0 && int64(time.Since(epoch)) >= k.deadline {
		return context.DeadlineExceeded
	}
	return k.err
}

// Value is what Relay.Value says of key.
func (k *Call) Value(key any) any {
	if key == (callKey{}) {
		return k
	}
	if f := k.m.r.Value; f != nil {
		return f(k, key)
	}
	return nil
}

func (k *Call) cancel(err error) {
	k.mu.Lock()
	if k.err == nil {
		k.err = err
		if k.done != nil {
			close(k.done)
		}
		if k.timer != nil {
			k.timer.Stop()
		}
	}
	k.mu.Unlock()
}

var smalls = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

func (k *Call) takeBody() {
	k.bodyBuf = smalls.Get().(*[]byte)
	k.body = (*k.bodyBuf)[:0]
}

func (k *Call) giveBody() {
	if cap(k.body) <= 64<<10 {
		*k.bodyBuf = k.body
		smalls.Put(k.bodyBuf)
	}
}
