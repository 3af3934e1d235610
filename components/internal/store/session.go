package store

import (
	"context"
	"sync"
	"time"
)

// session is the time in which one process owns the store, as a process that uses it sees it: it is the owner itself, or a
// client of the owner.
type session struct {
	machines *machines // of the owner itself
	remote   *remote   // the way to the owner, if that is another

	serving context.Context // ends when no more calls are begun; its cause says why
	stop    context.CancelCauseFunc
	patient context.Context // ends when calls of others that are under way have had their time
	hurry   context.CancelFunc

	mu    sync.Mutex
	over  bool
	calls sync.WaitGroup // under way, here and for others
}

func newSession() *session {
	s := &session{}
	s.serving, s.stop = context.WithCancelCause(context.Background())
	s.patient, s.hurry = context.WithCancel(context.Background())
	return s
}

// begin tells whether a call may begin; end is to be called for each that did.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.calls.Add(1)
	return true
}

func (s *session) end() { s.calls.Done() }

// finish lets no more calls begin, and ends the streams.
func (s *session) finish(why error) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.stop(why)
}

// wait waits for the calls under way; those that wait for something, such as a lock, are told after a while that they must end.
func (s *session) wait() {
	timer := time.AfterFunc(finishTime, s.hurry)
	defer timer.Stop()
	s.calls.Wait()
	s.hurry()
}

// finishTime is what calls get to come to their end when the owner gives the store up.
const finishTime = 500 * time.Millisecond

// gone tells whether the owner is no longer that of this session.
func (s *session) gone() bool {
	return s.serving.Err() != nil || s.remote != nil && s.remote.lost.Err() != nil
}
