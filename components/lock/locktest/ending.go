package locktest

import (
	"testing"
	"time"
)

// ending is about leases.
var ending = []test{
	{"LeaseEnds", func(t *testing.T, f *fixture) {
		began := time.Now()
		first := f.take(t, "l", "", f.Lease)
		second := f.freed(t, "l")
		if passed := time.Since(began); passed < f.Lease-f.Tolerance {
			t.Errorf("a lease of %v was over after %v", f.Lease, passed)
		}
		if second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
	}},
	{"WhatHasEndedIsLost", func(t *testing.T, f *fixture) {
		got := f.take(t, "l", "", f.Lease)
		time.Sleep(f.Lease + f.Tolerance)
		_, err := f.Renew(t.Context(), f.caller, "l", got.Token, long)
		lost(t, err)
		lost(t, f.Unlock(t.Context(), f.caller, "l", got.Token))
	}},
	{"EndedIsNotGivenAgain", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "a", f.Lease)
		time.Sleep(f.Lease + f.Tolerance)
		if second := f.take(t, "l", "a", long); second.Token <= first.Token {
			t.Errorf("token %d after %d, whose lease was over", second.Token, first.Token)
		}
	}},
	{"RenewKeeps", func(t *testing.T, f *fixture) {
		got := f.take(t, "l", "", 3*f.Lease)
		for end := time.Now().Add(5 * f.Lease); time.Now().Before(end); time.Sleep(f.Lease / 2) {
			left, err := f.Renew(t.Context(), f.caller, "l", got.Token, 3*f.Lease)
			if err != nil || left <= 0 || left > 3*f.Lease {
				t.Fatalf("renew: %v left, %v", left, err)
			}
			f.held(t, "l")
		}
		f.freed(t, "l")
	}},
	{"RenewCountsFromNow", func(t *testing.T, f *fixture) {
		got := f.take(t, "l", "", long)
		if _, err := f.Renew(t.Context(), f.caller, "l", got.Token, f.Lease); err != nil {
			t.Fatal(err)
		}
		if left := f.held(t, "l"); left > f.Lease {
			t.Errorf("a lease renewed to %v has %v left", f.Lease, left)
		}
		f.freed(t, "l")
	}},
	{"LeaseAgainCountsFromNow", func(t *testing.T, f *fixture) {
		f.take(t, "l", "a", long)
		f.take(t, "l", "a", f.Lease)
		f.freed(t, "l")
	}},
}
