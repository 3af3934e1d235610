package client

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// channel records the states that it is told.
type channel struct {
	balancer.ClientConn
	states []connectivity.State
	picker balancer.Picker
}

func (c *channel) UpdateState(s balancer.State) {
	c.states, c.picker = append(c.states, s.ConnectivityState), s.Picker
}

type broken struct{ err error }

func (b broken) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, b.err
}

func TestFailuresAreHeldBack(t *testing.T) {
	const (
		ready      = connectivity.Ready
		connecting = connectivity.Connecting
		failure    = connectivity.TransientFailure
		idle       = connectivity.Idle
	)
	synctest.Test(t, func(t *testing.T) {
		ch := &channel{}
		conn := &heldConn{ClientConn: ch}
		conn.configure(holdConfig{Grace: time.Second, Address: "unix:/s"})
		step := func(after time.Duration, s connectivity.State, want ...connectivity.State) {
			t.Helper()
			ch.states = nil
			conn.UpdateState(balancer.State{ConnectivityState: s, Picker: broken{errors.New("refused")}})
			time.Sleep(after)
			synctest.Wait()
			if !slices.Equal(ch.states, want) {
				t.Errorf("told %v, want %v", ch.states, want)
			}
		}
		step(0, failure, failure) // it never worked: Dial wants to know at once
		step(0, ready, ready)
		step(0, idle, idle)
		step(0, connecting, connecting)
		step(900*time.Millisecond, failure, connecting)
		step(0, ready, ready) // in time
		step(2*time.Second, idle, idle)
		step(600*time.Millisecond, failure, connecting)
		step(600*time.Millisecond, failure, connecting, failure) // counted from the first
		if _, err := ch.picker.Pick(balancer.PickInfo{}); Reason(err) != ReasonSidecarUnavailable || status.Convert(err).Message() != "the sidecar at unix:/s is away: refused" {
			t.Errorf("calls fail with %v", err)
		}
		step(2*time.Second, failure, failure) // and so it stays
		step(0, ready, ready)
		step(100*time.Millisecond, failure, connecting)
		conn.close()
		time.Sleep(2 * time.Second)
		if len(ch.states) != 1 {
			t.Errorf("told %v after the end", ch.states)
		}
	})
}
