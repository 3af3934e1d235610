package db

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

// later makes an update and answers where its outcome comes.
func later(ctx context.Context, s *Space, fn func(*Tx) error) chan error {
	done := make(chan error, 2) // a second answer would show
	s.UpdateLater(ctx, Disk, fn, func(err error) { done <- err })
	return done
}

// Updates that nobody waits for are done in the order they came in, among the others, and answered once each.
func TestUpdateLater(t *testing.T) {
	d := openLater(t)
	s := d.Space("test")
	failed := errors.New("as asked")
	var all []chan error
	for i := range 100 {
		all = append(all, later(t.Context(), s, func(tx *Tx) error {
			if i == 50 {
				return failed
			}
			old, _, err := tx.Get([]byte("order"))
			tx.Set([]byte("order"), fmt.Appendf(old, "%d,", i))
			return err
		}))
	}
	want := ""
	for i, done := range all {
		err := <-done
		if i == 50 && !errors.Is(err, failed) || i != 50 && err != nil {
			t.Error(i, err)
		}
		if i != 50 {
			want += fmt.Sprintf("%d,", i)
		}
	}
	v := s.View()
	if got, _, err := v.Get([]byte("order")); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	v.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := <-later(over, s, func(*Tx) error { t.Error("it has begun"); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for i, done := range all {
		if len(done) > 0 {
			t.Error(i, "was answered twice")
		}
	}
}

// Whoever waits for nothing hears of the end all the same, once: an update that is said not to have been done has not begun, later ones
// are refused.
func TestUpdateLaterHearsOfTheEnd(t *testing.T) {
	for name, end := range map[string]func(*DB){
		"closed": func(d *DB) { go d.Close() },
		"failed": func(d *DB) { d.fail(errors.New("as asked")) },
	} {
		t.Run(name, func(t *testing.T) {
			d := openLater(t)
			s := d.Space("test")
			holds, goOn := make(chan struct{}), make(chan struct{})
			all := []chan error{later(t.Context(), s, func(*Tx) error {
				close(holds)
				<-goOn
				return nil
			})}
			<-holds
			var begun [maxBatch + 10]atomic.Bool // more than one commit takes
			for i := range begun {
				all = append(all, later(t.Context(), s, func(*Tx) error { begun[i].Store(true); return nil }))
			}
			end(d)
			<-d.ended.Done()
			close(goOn)
			refused := 0
			for i, done := range all {
				err := <-done
				unknown := reasonOf(err) == ReasonOutcomeUnknown
				if i > 0 && !unknown && begun[i-1].Load() != (err == nil) {
					t.Errorf("update %d has begun: %t, and is told %v", i, begun[i-1].Load(), err)
				}
				if err != nil {
					refused++
				}
			}
			if refused == 0 {
				t.Error("the end has come too late to show anything")
			}
			if err := <-later(t.Context(), s, func(*Tx) error { t.Error("begun after the end"); return nil }); err == nil {
				t.Error("done after the end")
			}
			d.writing.Wait()
			for i, done := range all {
				if len(done) > 0 {
					t.Error(i, "was answered twice")
				}
			}
		})
	}
}

func reasonOf(err error) components.Reason {
	if d := (*components.Detail)(nil); errors.As(err, &d) {
		return d.Reason
	}
	return ""
}

func openLater(t *testing.T) *DB {
	d, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
