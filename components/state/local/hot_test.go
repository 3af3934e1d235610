package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func TestWhatIsHotIsNeverOlderThanTheStore(t *testing.T) {
	key, old, new := []byte("k"), []byte("old"), []byte("new")
	s := newHot().shard(key)
	is := func(when string, want []byte) (seen uint64) {
		t.Helper()
		got, seen := s.get(key)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
		return seen
	}
	before := is("at first", nil)
	s.touch(key)
	s.fill(key, old, before)
	during := is("what was read before the write began", nil)
	s.fill(key, old, during)
	is("what was read while it was under way", nil)
	s.settle()
	s.fill(key, old, before)
	s.fill(key, old, during)
	after := is("what was read before it had ended", nil)
	s.fill(key, new, after)
	is("what was read afterwards", new)
	s.touch(key)
	is("when the next write begins", nil)
	s.touch([]byte("another"))
	s.settle()
	s.fill(key, new, is("while one of two is under way", nil))
	is("while one of two is under way", nil)
}

func TestWhatIsHotIsBounded(t *testing.T) {
	h := newHot()
	s := h.shard([]byte("k"))
	for i := range 4 * hotBytes / hotShards / 1024 {
		key := fmt.Append(nil, i)
		_, seen := s.get(key)
		s.fill(key, make([]byte, 1024), seen)
		s.get([]byte("0"))
	}
	sum := 0
	for key, item := range s.records {
		sum += hotCost + len(key) + len(item.record)
	}
	if s.bytes != sum || sum > hotBytes/hotShards || sum < hotBytes/hotShards-2048 {
		t.Errorf("%d bytes are kept, %d are counted, %d may be", sum, s.bytes, hotBytes/hotShards)
	}
	_, seen := s.get([]byte("large"))
	s.fill([]byte("large"), make([]byte, hotRecord), seen)
	if record, _ := s.get([]byte("large")); record != nil {
		t.Error("a record of 64 KiB is kept")
	}
}

func TestPeek(t *testing.T) {
	o := start(t)
	peek := func(want bool) {
		t.Helper()
		f, err := o.machine.peek(t.Context(), getIn{o.key(items, "k")})
		if err != nil || (f.Record != nil) != want {
			t.Errorf("peeked %+v, %v; want it there: %v", f, err, want)
		}
	}
	peek(false)
	o.put(t, "k", time.Minute)
	peek(false)
	if o.left(t, "k") != time.Minute {
		t.Error("it is not there")
	}
	peek(true)
	failing := ops(setOf("k", 0), setOf("l", 0))
	failing.Operations[1].IfVersion = "no version of any item"
	if _, err := o.do(failing); !errors.Is(err, components.ErrConflict) {
		t.Fatal(err)
	}
	o.left(t, "k")
	peek(true) // a write that failed is over, too
	o.clocks.pass(time.Minute)
	peek(false)
	o.put(t, "k", 0)
	o.left(t, "k")
	peek(true)
	if _, err := o.do(ops(state.Operation{Kind: state.Delete, Key: "k"})); err != nil {
		t.Fatal(err)
	}
	peek(false)
}

// TestReadersSeeCountsGoUp has all ways of reading a key that is written all the time.
func TestReadersSeeCountsGoUp(t *testing.T) {
	o := start(t)
	key, ctx := o.key(items, "k"), context.Background()
	var acknowledged atomic.Int64
	var done atomic.Bool
	value := func(f found) int64 {
		item, err := f.item(nil)
		if err != nil {
			t.Error(err)
		}
		n, _ := strconv.ParseInt(string(item.Value), 10, 64)
		return n
	}
	write := func(n int64) {
		op := setOf("k", 0)
		op.Item.Value = strconv.AppendInt(nil, n, 10)
		if _, err := o.do(ops(op)); err != nil {
			t.Error(err)
		}
		acknowledged.Store(n)
	}
	write(1)
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for last := int64(0); !done.Load(); {
				least := max(last, acknowledged.Load())
				if f, err := o.machine.peek(ctx, getIn{key}); err != nil || f.Record != nil && value(f) < least {
					t.Errorf("peeked an older one than %d, %v", least, err)
				}
				one, err := o.machine.get(ctx, getIn{key})
				if err != nil || value(one) < least {
					t.Errorf("got an older one than %d, %v", least, err)
				}
				many, err := o.machine.getMany(ctx, getManyIn{[][]byte{key}})
				if last = value(many.Items[0]); err != nil || last < value(one) {
					t.Errorf("among many an older one than %d, %v", value(one), err)
				}
			}
		})
	}
	for n := range int64(2000) {
		write(n + 2)
	}
	done.Store(true)
	running.Wait()
}
