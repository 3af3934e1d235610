package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestJobs(t *testing.T) {
	ctx, c, stop := connected()
	defer stop()
	s := c.Schedule("")
	at := time.Now().Add(time.Hour).UTC()
	j := client.Job{Name: "a", Trigger: client.At(at), Data: []byte("x"), ContentType: "t", Metadata: map[string]string{"k": "v"}, Missed: client.MissedAll,
		Repeats: 2, Until: at.Add(time.Hour)}
	for range 2 {
		if next, err := s.Create(ctx, j); err != nil || !next.Equal(at) {
			t.Errorf("next is %v, %v", next, err)
		}
	}
	got, err := s.Get(ctx, "a")
	if err != nil || got.Name != "a" || string(got.Data) != "x" || got.ContentType != "t" || got.Metadata["k"] != "v" || got.Missed != client.MissedAll ||
		got.Repeats != 2 || !got.Until.Equal(j.Until) || !got.Next.Equal(at) || !got.Last.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Create(ctx, got.Job); err != nil {
		t.Errorf("what was got is not the same: %v", err)
	}
	_, err = s.Create(ctx, client.Job{Name: "a", Trigger: client.Every(time.Second)})
	if !errors.Is(err, client.ErrExists) || client.Reason(err) != "JOB_EXISTS" {
		t.Error(err)
	}
	if _, err := s.Replace(ctx, client.Job{Name: "a", Trigger: client.Cron("@daily", "")}); err != nil {
		t.Error(err)
	}
	if _, err := s.Create(ctx, client.Job{Name: "c", Missed: 9}); !errors.Is(err, client.ErrInvalid) {
		t.Error(err)
	}
	if _, err := s.Create(ctx, client.Job{Name: "b", Trigger: client.Every(time.Second)}); err != nil {
		t.Error(err)
	}
	if _, err := s.Replace(ctx, client.Job{Name: "b", Trigger: client.Every(time.Second), Repeats: -1 << 40}); err != nil {
		t.Error(err)
	}
	if got, err := s.Get(ctx, "b"); err != nil || got.Repeats >= 0 { // for the sidecar to refuse
		t.Errorf("what is far below 0 became %d, %v", got.Repeats, err)
	}
	var names []string
	for j, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, j.Name)
	}
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Error(names)
	}
	if err := s.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(ctx, "a"); !errors.Is(err, client.ErrNotFound) {
		t.Error(err)
	}
}

func TestHandle(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	s := c.Schedule("")
	for _, name := range []string{"ok", "again", "never", "slow", "other/x"} {
		if _, err := s.Create(t.Context(), client.Job{Name: name, Trigger: client.At(time.Now()), Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	left := map[string]bool{"ok": true, "again": true, "never": true, "slow": true, "other/x": true}
	err := s.Handle(ctx, client.HandleOptions{AckDeadline: 30 * time.Millisecond, Concurrency: 2}, func(ctx context.Context, f client.Firing) error {
		if f.ID != "firing of "+f.Name || string(f.Data) != "x" || f.Scheduled.IsZero() {
			t.Errorf("%+v", f)
		}
		if f.Name == "again" && f.Attempt == 1 {
			return errors.New("not yet")
		}
		if f.Name == "slow" {
			becomes(t, "true", func() string { return fmt.Sprint(slices.Contains(w.jobs.said(), "extend slow")) })
		}
		mu.Lock()
		defer mu.Unlock()
		if delete(left, f.Name); len(left) == 0 {
			cancel()
		}
		if f.Name == "never" {
			return client.Reject(errors.New("broken"))
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, want := range []string{"ack ok", "nack again", "ack again", "reject never", "extend slow", "ack slow", "ack other/x"} {
		if said := w.jobs.said(); !slices.Contains(said, want) {
			t.Errorf("%q was not said: %q", want, said)
		}
	}
}

// TestHandleResumes after the sidecar has drained: what was under way is settled first.
func TestHandleResumes(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	s := c.Schedule("")
	create := func(name string) {
		if _, err := s.Create(t.Context(), client.Job{Name: name, Trigger: client.At(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	create("first")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := s.Handle(ctx, client.HandleOptions{Prefix: ""}, func(_ context.Context, f client.Firing) error {
		switch f.Name {
		case "first":
			w.jobs.mu.Lock()
			close(w.jobs.draining)
			w.jobs.draining = make(chan struct{})
			w.jobs.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			create("second")
		case "second":
			cancel()
		}
		return nil
	})
	if said := w.jobs.said(); !errors.Is(err, context.Canceled) || !slices.Contains(said, "ack first") || !slices.Contains(said, "ack second") {
		t.Errorf("%v, %q was said", err, said)
	}
}
