package local

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// spoil writes records past the machine.
func (o *owner) spoil(t *testing.T, records map[string][]byte) {
	t.Helper()
	if err := o.space.Update(t.Context(), db.Disk, func(tx *db.Tx) error {
		for key, record := range records {
			tx.Set(o.key(items, key), record)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadableRecords: each says so, by its name, until it is written without looking at it; others are served.
func TestUnreadableRecords(t *testing.T) {
	o := start(t)
	for _, key := range []string{"empty", "newer", "short", "sound"} {
		o.put(t, key, time.Minute)
	}
	newer := make([]byte, headBytes)
	newer[0] = format + 1
	o.spoil(t, map[string][]byte{"empty": {}, "newer": newer, "short": {format, 1, 2}})

	many, err := o.machine.getMany(t.Context(), getManyIn{[][]byte{o.key(items, "empty"), o.key(items, "sound"), o.key(items, "absent")}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{components.ErrDamaged, nil, components.ErrNotFound} {
		if item, err := many.Items[i].item(nil); !errors.Is(err, want) || want == nil && string(item.Value) != "v" {
			t.Errorf("item %d of several: %q, %v; want %v", i, item.Value, err, want)
		}
	}
	blames := func(key string, err error) {
		t.Helper()
		if !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), `default/`+key+`"`) {
			t.Errorf("%v; want that %s is damaged", err, key)
		}
	}
	_, err = o.machine.list(t.Context(), listIn{Prefix: o.key(items), Limit: 10})
	blames("empty", err)
	for i, key := range []string{"empty", "newer", "short"} {
		_, err := o.machine.get(t.Context(), getIn{o.key(items, key)})
		blames(key, err)
		conditional := setOf(key, 0)
		conditional.IfAbsent = true
		_, err = o.do(ops(setOf("sound", 0), conditional))
		blames(key, err)
		heal := []state.Operation{setOf(key, time.Hour), {Kind: state.Delete, Key: key}, setOf(key, 0)}[i]
		if _, err := o.do(ops(heal)); err != nil {
			t.Errorf("%v of %s: %v", heal.Kind, key, err)
		}
	}
	o.clocks.pass(10 * time.Minute) // when the index of what was there before comes due
	o.sweepAll(t)
	if left := o.left(t, "empty"); left != 50*time.Minute {
		t.Errorf("%s are left of what was set in place of a record that could not be read", left)
	}
	if left := o.left(t, "newer"); left != -1 {
		t.Errorf("what was deleted is there for %s", left)
	}
}

// TestUnreadableRecordExpires as it would have.
func TestUnreadableRecordExpires(t *testing.T) {
	o := start(t)
	o.put(t, "k", time.Minute)
	o.put(t, "other", time.Minute)
	o.spoil(t, map[string][]byte{"k": {}})
	o.clocks.pass(time.Minute)
	o.sweepAll(t)
	if n := o.records(t); n != 0 {
		t.Errorf("%d records are left", n)
	}
}
