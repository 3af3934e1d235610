package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
)

// HeldLock is a lock that this process has, until Unlock or until it is lost: when the process was frozen for too long, or the
// sidecar is away. No lease keeps a process that wakes up from going on where it stood, so let writes carry the Fence.
type HeldLock struct {
	stream   grpc.BidiStreamingClient[lockv1.HoldRequest, lockv1.HoldResponse]
	ctx      context.Context // of the stream, and for the holder
	cancel   context.CancelCauseFunc
	fence    Fence
	lease    time.Duration
	draining chan struct{}
	ended    chan struct{} // closed when why is set

	sending sync.Mutex     // the stream takes one message at a time
	talking sync.WaitGroup // read and send

	mu    sync.Mutex
	end   time.Time   // of the lease, as far as is known
	beats []time.Time // when those heartbeats were sent that are not answered yet
	out   *time.Timer // at the end
	freed bool        // Unlock was called
	why   error       // it is not held any more
}

const (
	interval       = 3               // heartbeats in a lease
	unlockPatience = 5 * time.Second // for the sidecar's answer
)

var errUnlocked = madeHere(codes.FailedPrecondition, ReasonLockLost, "the lock was unlocked", 0)

func lost(why string) error {
	return madeHere(codes.FailedPrecondition, ReasonLockLost, "the lock is lost: "+why, 0)
}

// Token is greater than any that the lock had before.
func (h *HeldLock) Token() uint64 { return h.fence.Token }

// Fence lets writes of State fail that come after a later holder's.
func (h *HeldLock) Fence() Fence { return h.fence }

// Context ends when the lock is held no more; its cause is Err. It has the values of the context that was passed to Acquire.
func (h *HeldLock) Context() context.Context { return h.ctx }

// Done closes when the lock is held no more. A process that was frozen may see that a little late; Err does not.
func (h *HeldLock) Done() <-chan struct{} { return h.ended }

// Draining closes when the sidecar is ending: the holder should come to its end.
func (h *HeldLock) Draining() <-chan struct{} { return h.draining }

// Err is nil while the lock is held. Then it is ErrPrecondition, reason LOCK_LOST.
func (h *HeldLock) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == nil && !time.Now().Before(h.end) {
		return lost("its lease is over")
	}
	return h.why
}

// Unlock frees the lock, and tells if it had been lost before. It may be called more than once, and ought to be called even where the lock
// is lost: then it waits for the end of what kept it.
func (h *HeldLock) Unlock() error {
	h.mu.Lock()
	h.freed = true
	h.mu.Unlock()
	h.sending.Lock()
	_ = h.stream.CloseSend() // it always answers nil
	h.sending.Unlock()
	select {
	case <-h.ended:
	case <-time.After(unlockPatience):
		h.finish(madeHere(codes.Unavailable, ReasonSidecarUnavailable,
			"the sidecar does not answer: the lock is free when its lease is over", 0))
	}
	h.talking.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == error(errUnlocked) {
		return nil
	}
	return h.why
}

// keep begins the heartbeats.
func (h *HeldLock) keep() {
	h.mu.Lock()
	h.out = time.AfterFunc(time.Until(h.end), h.expire)
	h.mu.Unlock()
	h.talking.Go(h.read)
	h.talking.Go(h.send)
}

func (h *HeldLock) read() {
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.finish(h.reason(err))
			return
		}
		h.heard(m)
	}
}

func (h *HeldLock) reason(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.freed && errors.Is(err, io.EOF):
		return errUnlocked
	case Reason(err) == ReasonLockLost:
		return err
	default:
		return lost(err.Error())
	}
}

func (h *HeldLock) send() {
	tick := time.NewTicker(max(h.lease/interval, shortestTick))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if h.beat() != nil {
				return // read knows why
			}
		case <-h.ctx.Done():
			return
		}
	}
}

func (h *HeldLock) beat() error {
	h.sending.Lock()
	defer h.sending.Unlock()
	h.mu.Lock()
	freed := h.freed
	h.beats = append(h.beats, time.Now())
	h.mu.Unlock()
	if freed {
		return io.EOF
	}
	return h.stream.Send(&lockv1.HoldRequest{Message: &lockv1.HoldRequest_Heartbeat_{Heartbeat: &lockv1.HoldRequest_Heartbeat{}}})
}

// heard takes what the sidecar says, and tells whether that was an answer to a heartbeat. Its lease counts from when that was sent, which
// was before it was renewed: this process may have been frozen since.
func (h *HeldLock) heard(m *lockv1.HoldResponse) bool {
	if m.GetDraining() != nil {
		select {
		case <-h.draining:
		default:
			close(h.draining)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.GetRenewed() == nil || len(h.beats) == 0 {
		return false
	}
	h.end = h.beats[0].Add(m.GetRenewed().GetLease().AsDuration())
	h.beats = h.beats[1:]
	if h.out != nil {
		h.out.Reset(time.Until(h.end))
	}
	return true
}

func (h *HeldLock) expire() {
	if err := h.Err(); err != nil {
		h.finish(err)
	}
}

// finish ends the stream, if it has not ended already, and says why.
func (h *HeldLock) finish(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != nil {
		return
	}
	h.why = why
	h.out.Stop()
	h.cancel(why)
	close(h.ended)
}
