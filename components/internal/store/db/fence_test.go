package db

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Whatever changes something is stopped by a fence that is shut, also what a later version of the engine's file system brings: what lies
// below it here is nil, and a call that got through would panic.
func TestFenceStopsEveryChange(t *testing.T) {
	f := &fence{}
	f.close()
	f.wait()
	for _, tc := range []struct {
		of    any
		reads []string
	}{
		{vfs.FS(f), []string{"GetDiskUsage", "List", "Lock", "Open", "PathBase", "PathDir", "PathJoin", "Stat", "Unwrap"}},
		{vfs.File(&fencedFile{struct{ vfs.File }{}, f}), []string{"Close", "Fd", "Prefetch", "Read", "ReadAt", "Stat"}},
	} {
		v := reflect.ValueOf(tc.of)
		of := reflect.TypeFor[vfs.FS]()
		if _, file := tc.of.(vfs.File); file {
			of = reflect.TypeFor[vfs.File]()
		}
		for i := range of.NumMethod() {
			m := of.Method(i)
			if slices.Contains(tc.reads, m.Name) {
				continue
			}
			if err := refusal(v.MethodByName(m.Name)); !errors.Is(err, errShut) {
				t.Errorf("%s.%s: %v", of.Name(), m.Name, err)
			}
		}
	}
}

// refusal calls a method with nothing, and answers the error or panic.
func refusal(m reflect.Value) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it was let through")
		}
	}()
	var args []reflect.Value
	for i := range m.Type().NumIn() {
		if !m.Type().IsVariadic() || i < m.Type().NumIn()-1 {
			args = append(args, reflect.Zero(m.Type().In(i)))
		}
	}
	out := m.Call(args)
	err, _ = out[len(out)-1].Interface().(error)
	return err
}
