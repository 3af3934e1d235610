package mesh

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
)

// silent never says anything.
type silent struct{}

func (silent) Watch(ctx context.Context, _ Service, _ func([]Instance) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// Who found a service just before it was forgotten is not left waiting for what nobody will tell, and finds it anew; who watches it
// keeps it from being forgotten.
func TestForgottenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDirectory(silent{}, slog.New(slog.DiscardHandler))
		defer d.Close()
		stock := Service{Namespace: "shop", Name: "stock"}
		const later = 1 << 20 // in seconds
		found := d.Find(stock)
		d.sweep(later)
		synctest.Wait()
		resumed := false
		found.Wait(func() { resumed = true })
		if !resumed {
			t.Error("it waits")
		}
		w := &watcher{changed: make(chan struct{}, 1)}
		if found.join(w) {
			t.Error("it watches what was forgotten")
		}
		fresh := d.Find(stock)
		if fresh == found || !fresh.join(w) {
			t.Fatal("it was not found anew")
		}
		if d.sweep(later); d.Find(stock) != fresh {
			t.Error("it was forgotten though it is watched")
		}
	})
}
