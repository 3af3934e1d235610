//go:build servers

package nacos

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn/nacostest"
)

// TestWhatWouldBeLookedAtLaterEndsWithItsWatch: the server's value is older than the watch has seen one, so that it would look again.
func TestWhatWouldBeLookedAtLaterEndsWithItsWatch(t *testing.T) {
	defaults, _ := config.Drivers.Defaults("nacos")
	o := defaults.(Options)
	o.Nacos, o.Group = nacostest.Options(t), "t-"+rand.Text()
	all, err := Open(t.Context(), components.Env{ID: components.ID{Name: "default"}, DataDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	d := all.(*driver)
	defer componenttest.Close(t, d)
	set := func(key, value string) {
		t.Helper()
		if _, err := d.Set(t.Context(), config.Item{Key: key, Value: []byte(value)}, ""); err != nil {
			t.Fatal(err)
		}
	}
	set("ns/a", "1")

	ctx, end := context.WithCancel(t.Context())
	defer end()
	began, ended := make(chan *watch, 1), make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Watch(ctx, config.Selection{Keys: []string{"ns/a", "ns/b"}}, func(_ []config.Change, whole bool) error {
			d.hub.mu.Lock()
			defer d.hub.mu.Unlock()
			for w := range d.hub.watches {
				if whole {
					w.told["ns/a"] = mark{version: "another", modified: time.Now().Add(time.Hour).UnixMilli()}
					began <- w
				} else if len(w.later) > 0 {
					end()
				}
			}
			return nil
		})
	}()
	w := <-began
	set("ns/a", "2")
	for i := 0; ctx.Err() == nil; i++ { // one of these is told after that was seen
		set("ns/b", fmt.Sprint(i))
		componenttest.Eventually(t, 30*time.Second, func() error {
			item, err := d.Get(t.Context(), "ns/b")
			if err == nil && string(item.Value) != fmt.Sprint(i) {
				err = fmt.Errorf("%q", item.Value)
			}
			return err
		})
	}
	<-ended
	if len(w.later) != 1 || w.later["ns/a"].Stop() {
		t.Errorf("the watch has ended, and goes on to look at one of %d keys", len(w.later))
	}
}
