package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// follow reads a sequence in its own goroutine until ctx ends.
func follow[T any](t *testing.T, seq iter.Seq2[T, error]) <-chan string {
	t.Helper()
	out, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		for v, err := range seq {
			if err != nil {
				out <- "error: " + err.Error()
				continue
			}
			out <- describe(v)
		}
	}()
	t.Cleanup(func() { <-done })
	return out
}

func describe(v any) string {
	switch v := v.(type) {
	case client.Change:
		if v.Deleted {
			return v.Key + " deleted"
		}
		return v.Key + "=" + string(v.Item.Value)
	case client.Resolution:
		return fmt.Sprintf("%s %d", v.Address, len(v.Instances))
	default:
		return fmt.Sprint(v)
	}
}

func next(t *testing.T, out <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-out:
			if got != w {
				t.Fatalf("next is %q, want %q", got, w)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing came, want %q", w)
		}
	}
}

func set(t *testing.T, c *client.Client, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if _, err := c.Config("").Set(within(t), client.ConfigItem{Key: pairs[i], Value: []byte(pairs[i+1])}); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, c *client.Client, key string) {
	t.Helper()
	if err := c.Config("").Delete(within(t), key); err != nil {
		t.Fatal(err)
	}
}

// watchContext ends before the cleanups that wait for readers.
func watchContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func TestWatch(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	set(t, c, "a", "1", "other", "x")
	ctx, cancel := watchContext(t)
	out := follow(t, c.Config("").Watch(ctx, "a", "b"))
	next(t, out, "b deleted", "a=1")
	set(t, c, "b", "1")
	next(t, out, "b=1")
	remove(t, c, "a")
	next(t, out, "a deleted")
	set(t, c, "a", "2")
	next(t, out, "a=2")
	cancel()
	next(t, out, "error: context canceled")
}

func TestWatchSurvivesARestart(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := dial(t, client.WithSocket(path), client.WithGrace(50*time.Millisecond), client.WithLogger(logger))
	set(t, c, "same", "1", "changes", "1", "goes", "1", "twice", "1")
	ctx, cancel := watchContext(t)
	out := follow(t, c.Config("").Watch(ctx, "same", "changes", "goes", "twice", "comes", "never"))
	next(t, out, "comes deleted", "never deleted", "changes=1", "goes=1", "same=1", "twice=1")

	f.stop()
	_, err := c.Cache("").Get(within(t), "a") // it is noticed that it is away, and that for longer than calls wait
	if !errors.Is(err, client.ErrUnavailable) {
		t.Error(err)
	}
	w.edit(func(version string) {
		item := func(key, value string) *configv1.Item {
			return &configv1.Item{Key: key, Value: []byte(value), Version: version + key}
		}
		w.config["changes"], w.config["comes"] = item("changes", "2"), item("comes", "1")
		w.config["twice"] = item("twice", "1") // the same value is another version
		delete(w.config, "goes")
	})
	start(t, w, path)
	next(t, out, "goes deleted", "changes=2", "comes=1", "twice=1")
	if err := c.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	set(t, c, "same", "2") // nothing else was between
	next(t, out, "same=2")
	cancel()
	next(t, out, "error: context canceled")
	if !strings.Contains(log.String(), "stream resumes") {
		t.Errorf("log %q", log.String())
	}
}

func TestWatchSurvivesAReload(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	set(t, c, "p/a", "1", "p/b", "1", "q", "1")
	ctx, cancel := watchContext(t)
	out := follow(t, c.Config("").WatchPrefix(ctx, "p/"))
	next(t, out, "p/a=1", "p/b=1")
	for _, value := range []string{"2", "3"} {
		w.reload()
		set(t, c, "p/b", value)
		next(t, out, "p/b="+value)
	}
	w.edit(func(string) {
		delete(w.config, "p/b")
		close(w.reloaded) // both at once: which of them the stream sees first does not matter
		w.reloaded = make(chan struct{})
	})
	next(t, out, "p/b deleted")
	set(t, c, "p/b", "4")
	next(t, out, "p/b=4")
	cancel()
	next(t, out, "error: context canceled")
}

func TestWatchGoesOn(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	set(t, c, "a", "1")
	for _, err := range []error{
		problem(codes.Unavailable, "COMPONENT_NOT_READY", "starting"), problem(codes.Internal, "INTERNAL", "oops"),
		problem(codes.Canceled, "", "draining"), overloaded("busy", time.Millisecond),
	} {
		w.mu.Lock()
		w.fail = err
		w.mu.Unlock()
		for change, err := range c.Config("").Watch(within(t), "a") {
			if err != nil || string(change.Item.Value) != "1" {
				t.Errorf("change %+v: %v", change, err)
			}
			break
		}
	}
}

func TestWatchGivesUp(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	for reason, code := range map[string]codes.Code{
		"COMPONENT_NOT_FOUND": codes.NotFound, "KEY_INVALID": codes.InvalidArgument, "DENIED": codes.PermissionDenied,
		"UNSUPPORTED": codes.Unimplemented, "MESSAGE_TOO_LARGE": codes.ResourceExhausted,
	} {
		w.mu.Lock()
		w.fail = problem(code, reason, "no")
		w.mu.Unlock()
		rounds := 0
		for _, err := range c.Config("").Watch(within(t), "a") {
			if rounds++; client.Reason(err) != reason {
				t.Errorf("error %v, want %s", err, reason)
			}
		}
		if rounds != 1 {
			t.Errorf("%s: %d rounds", reason, rounds)
		}
	}
}

func TestWatchEndsWithItsLoop(t *testing.T) {
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target))
	for change, err := range c.Config("").Watch(context.Background(), "a") {
		if err != nil || !change.Deleted || w.watching(0) != 1 {
			t.Errorf("change %+v, %v, %d streams", change, err, w.watching(0))
		}
		break
	}
	waitFor(t, func() bool { return w.watching(0) == 0 })
}

func TestWatchStartsBeforeTheSidecarIsBack(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	c := dial(t, client.WithSocket(path), client.WithGrace(0))
	set(t, c, "a", "1")
	f.drain()
	ctx, cancel := watchContext(t)
	out := follow(t, c.Config("").Watch(ctx, "a"))
	time.Sleep(100 * time.Millisecond)
	start(t, w, path)
	next(t, out, "a=1")
	cancel()
	next(t, out, "error: context canceled")
}

// outage is a component with the keys a and b. Its sidecar restarts while the back end is away, and then knows of a alone; meanwhile b is deleted.
type outage struct {
	configv1.UnimplementedConfigServer
	streams int
}

func (o *outage) Watch(_ *configv1.WatchRequest, s grpc.ServerStreamingServer[configv1.WatchResponse]) error {
	item := func(key string, stale bool) *configv1.WatchResponse_Change {
		return &configv1.WatchResponse_Change{Key: key, Item: &configv1.Item{Key: key, Version: "1", Stale: stale}}
	}
	send := func(initial bool, changes ...*configv1.WatchResponse_Change) error {
		return s.Send(&configv1.WatchResponse{Initial: initial, Changes: changes})
	}
	o.streams++ // one after the other
	switch o.streams {
	case 1:
		return send(true, item("a", false), item("b", false))
	case 2:
		if err := send(true, item("a", true)); err != nil {
			return err
		}
		if err := send(false, item("a", false)); err != nil {
			return err
		}
	default:
		if err := send(true, item("a", false)); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return nil
}

func TestWatchTellsWhatWentDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, func(s *grpc.Server) { configv1.RegisterConfigServer(s, &outage{}) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var told []string
		for change, err := range c.Config("").WatchPrefix(ctx, "") {
			if err != nil {
				t.Fatalf("%v after %v", err, told)
			}
			if told = append(told, fmt.Sprint(change.Key, change.Deleted)); change.Deleted {
				break
			}
		}
		if got := strings.Join(told, " "); got != "afalse bfalse btrue" {
			t.Errorf("it was told %s", got)
		}
	})
}

func TestRegistryWatch(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	c := dial(t, client.WithSocket(path))
	stock := client.Service{Name: "stock"}
	ctx, cancel := watchContext(t)
	out := follow(t, c.Registry().Watch(ctx, stock))
	next(t, out, outbound+" 0")
	publish := func(zone string) {
		t.Helper()
		if _, err := c.Registry().Publish(within(t), client.Publication{Service: stock, Port: 1, Zone: zone}); err != nil {
			t.Fatal(err)
		}
	}
	publish("a")
	next(t, out, outbound+" 2")
	set(t, c, "unrelated", "1") // sent again, and not news
	publish("b")
	next(t, out, outbound+" 2")

	f.stop()
	start(t, w, path)        // sent again
	waitFor(t, func() bool { // the first may be lost with the old connection
		return c.Registry().Unpublish(within(t), stock) == nil
	})
	next(t, out, outbound+" 0")
	cancel()
	next(t, out, "error: context canceled")
}
