package publish_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

const (
	each = 2 * time.Second
	all  = 25 * time.Second
)

// leaving runs f with a publisher that has had n services in the registry for an hour, under a clock that goes as it is waited for.
func leaving(t *testing.T, file string, n int, f func(t *testing.T, b *bench, port int)) {
	synctest.Test(t, func(t *testing.T) {
		b := startWith(t, file, func(o *publish.Options) { o.Probe = time.Minute })
		_, port := serve(t, 0)
		for i := range n {
			b.publish(t, publish.Publication{Service: service(fmt.Sprint("s", i)), Port: port})
			b.central.have(t, fmt.Sprintf("s%d|", i))
		}
		time.Sleep(time.Hour)
		f(t, b, port)
	})
}

func (b *bench) called(name string) bool { _, ok := b.Port(name, ""); return ok }

// leave leaves a service; the channel says how long that took.
func (b *bench) leave(t *testing.T, ctx context.Context, name string) <-chan time.Duration {
	took := make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		if err := b.Leave(ctx, service(name), each, all); err != nil {
			t.Error(err)
		}
		took <- time.Since(began)
	}()
	return took
}

// TestLeave: who has not heard yet still reaches the application until it is answered; what is kept says from the beginning that the service was
// taken back.
func TestLeave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	leaving(t, file, 2, func(t *testing.T, b *bench, port int) {
		b.called("s0")
		took := b.leave(t, t.Context(), "s0")
		b.central.lack(t, "s0|")
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), `"s0"`) || !strings.Contains(string(text), `"s1"`) {
			t.Errorf("kept is %s, %v", text, err)
		}
		time.Sleep(each - 100*time.Millisecond)
		if !b.called("s0") || !b.Uses(port) {
			t.Error("calls are refused before all have heard")
		}
		if took := <-took; took < each || took > each+time.Second {
			t.Errorf("it took %s", took)
		}
		if b.called("s0") || !b.called("s1") {
			t.Error("it is not this one that is refused")
		}
	})
}

// TestLeaveWaitsForTheRegistry, but not for ever.
func TestLeaveWaitsForTheRegistry(t *testing.T) {
	leaving(t, "", 1, func(t *testing.T, b *bench, _ int) {
		b.called("s0")
		b.central.set(context.DeadlineExceeded)
		if took := <-b.leave(t, t.Context(), "s0"); took < 2*each || took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestPublishedWhileItIsLeft stands, and is left anew by who asks for that then.
func TestPublishedWhileItIsLeft(t *testing.T) {
	leaving(t, "", 1, func(t *testing.T, b *bench, port int) {
		b.called("s0")
		first := b.leave(t, t.Context(), "s0")
		b.central.lack(t, "s0|")
		time.Sleep(each / 2)
		b.publish(t, publish.Publication{Service: service("s0"), Port: port})
		if <-first; !b.called("s0") {
			t.Error("the end of what was before took it away")
		}
		b.central.have(t, "s0|")
		first = b.leave(t, t.Context(), "s0")
		time.Sleep(each / 2)
		b.publish(t, publish.Publication{Service: service("s0"), Port: port})
		b.called("s0")
		second := b.leave(t, t.Context(), "s0")
		if <-first; !b.called("s0") {
			t.Error("the end of the first ended the second")
		}
		if <-second; b.called("s0") {
			t.Error("it is still called")
		}
	})
}

// TestLeaveEndsEarly: when who asked has gone, and when the service is taken back by who wants no call any more.
func TestLeaveEndsEarly(t *testing.T) {
	leaving(t, "", 2, func(t *testing.T, b *bench, _ int) {
		b.called("s0")
		b.called("s1")
		ctx, gone := context.WithCancel(t.Context())
		first, second := b.leave(t, ctx, "s0"), b.leave(t, t.Context(), "s1")
		time.Sleep(each / 2)
		gone()
		if took := <-first; took >= each || b.called("s0") {
			t.Errorf("it took %s, or is still called", took)
		}
		if err := b.Unpublish(t.Context(), service("s1")); err != nil || b.called("s1") {
			t.Errorf("it is still called, or %v", err)
		}
		<-second
	})
}

// TestLeaveTwice: an application that has two hooks for its end asks twice, and may stop to serve at either answer.
func TestLeaveTwice(t *testing.T) {
	leaving(t, "", 1, func(t *testing.T, b *bench, _ int) {
		b.called("s0")
		first := b.leave(t, t.Context(), "s0")
		time.Sleep(each / 2)
		if took := <-b.leave(t, t.Context(), "s0"); took < each/2 || took > each {
			t.Errorf("the second took %s", took)
		}
		<-first
		if took := <-b.leave(t, t.Context(), "s0"); took > 0 {
			t.Errorf("one that was left took %s", took)
		}
	})
}

// TestLeaveOfMany: each that is called has its time, as long as all together stay within theirs; none is waited for that nobody calls.
func TestLeaveOfMany(t *testing.T) {
	const many = 40
	leaving(t, "", many, func(t *testing.T, b *bench, _ int) {
		for i := range many / 2 {
			b.called(fmt.Sprint("s", 2*i))
		}
		began, waited := time.Now(), 0
		for i := range many {
			took := <-b.leave(t, t.Context(), fmt.Sprint("s", i))
			if took >= each {
				waited++
			}
			if i%2 == 1 && took > time.Second {
				t.Errorf("%s for a service that nobody calls", took)
			}
		}
		if took := time.Since(began); waited < 10 || took > all+each {
			t.Errorf("%d were waited for, in %s", waited, took)
		}
	})
}

// TestLeaveWhatIsDeclared: the configuration's stands, so nobody has anything to hear of.
func TestLeaveWhatIsDeclared(t *testing.T) {
	leaving(t, "", 1, func(t *testing.T, b *bench, port int) {
		b.Declare([]publish.Publication{{Service: service("s0"), Port: port}})
		b.called("s0")
		if took := <-b.leave(t, t.Context(), "s0"); took > time.Second || !b.called("s0") {
			t.Errorf("it took %s, or is called no more", took)
		}
	})
}
