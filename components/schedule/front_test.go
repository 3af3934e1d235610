package schedule_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var caller = components.Caller{Namespace: "shop", App: "orders"}

// fake is a driver of one firing, which comes again and again until it is done with.
type fake struct {
	schedule.Driver
	mu      sync.Mutex
	late    bool // answers when the caller has gone
	attempt int
	held    bool
	done    bool
	changed chan struct{}
}

func (f *fake) Policy() schedule.Policy {
	return schedule.Policy{MaxAttempts: 3, MaxDelay: time.Minute}
}
func (f *fake) Watch(context.Context, schedule.Watching) (schedule.Session, error) { return f, nil }
func (f *fake) Close(context.Context) error                                        { return nil }

func (f *fake) Fetch(ctx context.Context, room schedule.Room) ([]schedule.Firing, error) {
	if f.late {
		<-ctx.Done()
	}
	for {
		f.mu.Lock()
		changed := f.changed
		if !f.held && !f.done && room.Messages > 0 {
			f.held = true
			f.attempt++
			defer f.mu.Unlock()
			return []schedule.Firing{{Position: "p", ID: "f", Attempt: f.attempt, Scheduled: time.Now(), Job: schedule.Job{Name: "shop/orders/j", Data: []byte("1234")}}}, nil
		}
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fake) Settle(_ context.Context, all []schedule.Settlement) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range all {
		switch s.Outcome {
		case schedule.Done:
			f.done = true
		case schedule.Returned:
			f.attempt--
			f.held = false
		case schedule.Again:
			f.held = false
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

func (f *fake) isDone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

func watch(t *testing.T, f *fake) (*schedule.Stream, *components.Component[schedule.Driver]) {
	t.Helper()
	f.changed = make(chan struct{})
	c := components.NewComponent[schedule.Driver](components.ID{Capability: "schedule", Name: "default", Driver: "fake"}, components.Limits{}, nil)
	c.Set(f)
	s, err := schedule.New(c, nil).Watch(t.Context(), caller, "", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func next(t *testing.T, s *schedule.Stream) schedule.Delivery {
	t.Helper()
	all, err := s.Next()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d deliveries, %v", len(all), err)
	}
	return all[0]
}

func grant(t *testing.T, s *schedule.Stream, messages, bytes int64) {
	t.Helper()
	if err := s.Grant(messages, bytes); err != nil {
		t.Fatal(err)
	}
}

// TestAttemptsAreBounded: by nacks and by deadlines that pass.
func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := watch(t, f)
		defer s.Close()
		grant(t, s, 10, 0)
		first := next(t, s)
		if first.Attempt != 1 || first.Job.Name != "j" {
			t.Errorf("%+v", first)
		}
		s.Nack(first.DeliveryID, time.Hour)
		began := time.Now()
		second := next(t, s)
		time.Sleep(9 * time.Second)
		s.Extend(second.DeliveryID)
		third := next(t, s) // nothing was said of the second
		if took := time.Since(began); took != 19*time.Second || third.Attempt != 3 {
			t.Errorf("attempt %d comes after %v", third.Attempt, took)
		}
		s.Ack(second.DeliveryID) // too late
		s.Nack(third.DeliveryID, 0)
		synctest.Wait()
		if !f.isDone() {
			t.Error("it is tried for ever")
		}
	})
}

func TestWhatDoesNotFitGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := watch(t, f)
		defer s.Close()
		got := make(chan schedule.Delivery, 1)
		go func() { got <- next(t, s) }()
		synctest.Wait()
		if f.attempt != 0 {
			t.Error("firings are fetched without credit")
		}
		grant(t, s, 1, 3)
		synctest.Wait()
		if len(got) != 0 {
			t.Error("more bytes are delivered than there is credit for")
		}
		grant(t, s, 0, 1)
		if d := <-got; d.Attempt != 1 {
			t.Errorf("attempt %d of what was not delivered before", d.Attempt)
		}
	})
}

func TestNothingIsDeliveredToAStreamThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, c := watch(t, f)
		grant(t, s, 1, 0)
		f.late = true
		ended := make(chan error, 1)
		go func() {
			_, err := s.Next()
			ended <- err
		}()
		synctest.Wait()
		c.Set(&fake{})
		if err := <-ended; !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%v, want that the stream has ended", err)
		}
		s.Close()
		if f.attempt != 0 {
			t.Errorf("%d attempts of what was not delivered", f.attempt)
		}
	})
}

func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := watch(t, f)
		defer s.Close()
		grant(t, s, 1, 0)
		d := next(t, s)
		s.Drain()
		if _, err := s.Next(); !errors.Is(err, schedule.ErrDraining) {
			t.Errorf("%v, want ErrDraining", err)
		}
		grant(t, s, 10, 0)
		s.Reject(d.DeliveryID, "broken")
		if !f.isDone() {
			t.Error("what was delivered cannot be settled")
		}
	})
}

func TestAReloadEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := watch(t, &fake{})
		retired := c.Set(&fake{})
		_, err := s.Next()
		var d *components.Detail
		if !errors.Is(err, components.ErrUnavailable) || !errors.As(err, &d) || d.Reason != components.ReasonReloaded {
			t.Errorf("%v, want reason RELOADED", err)
		}
		s.Close()
		<-retired
	})
}
