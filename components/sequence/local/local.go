// Package local draws numbers from the local store, which the sidecars of a machine share through one data folder.
//
// A record has the key COMPONENT/NAMESPACE/APP/KEY; its first byte is the format, 1. The largest number that may have been given follows,
// and by how much the store's numbers had been raised by then because it comes from a backup: eight bytes each, the highest first.
package local

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

func init() {
	components.Register(sequence.Drivers, "local", Options{Ahead: 1000}, Open)
}

// Options of the driver.
type Options struct {
	Ahead int64 `yaml:"ahead" doc:"how many numbers beyond those that were asked for are put aside at once, so that the next calls need no disk; they are gone when the store gets another owner"`
}

// Validate refuses what makes no sense.
func (o Options) Validate() error {
	if o.Ahead < 0 || o.Ahead > sequence.MaxSize {
		return fmt.Errorf("ahead: %d is not from 0 to %d", o.Ahead, sequence.MaxSize)
	}
	return nil
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- No number is given twice, in either order, by any sidecar with this data folder: not over restarts, not when another process takes
  the store over, and not when the machine loses power. There is no durability to choose: numbers are put aside on the
  disk before the first of them is given.
- Nor is one given twice by a store that was restored from a backup: its numbers, of new keys too, go on as if of each key one
  had been given in each nanosecond since the backup. That no more of a key were given is all that this takes for granted.
- Each number is greater than all that had been given before the call began, also where it only needs to be unique.
- The first number of a key is 1 in a store that was never restored. What was put aside and not given is gone when the store gets another owner, and may be when very many keys
  are in use.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (sequence.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	return &sequences{Client: store.Client{Link: link}, prefix: env.ID.Name + "/", ahead: o.Ahead}, nil
}

// sequences asks the machine of the store, wherever that is.
type sequences struct {
	store.Client
	prefix string
	ahead  int64
}

var (
	_ components.Closer  = (*sequences)(nil)
	_ components.Checker = (*sequences)(nil)
)

func (s *sequences) Next(ctx context.Context, key string, n int64) (int64, error) {
	got, err := next.Call(ctx, s.Link, ask{Key: s.prefix + key, Size: n, Ahead: s.ahead})
	return got.First, err
}
