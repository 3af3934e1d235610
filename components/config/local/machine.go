package local

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func init() { store.Register("config", openMachine) }

// What driver and machine say to each other. Keys are C/NAMESPACE/KEY.
var (
	getCall    = store.Unary[keyIn, itemsOut]{Name: "config/get", Safe: true}
	listCall   = store.Unary[listIn, itemsOut]{Name: "config/list", Safe: true}
	setCall    = store.Unary[setIn, string]{Name: "config/set"}
	deleteCall = store.Unary[deleteIn, struct{}]{Name: "config/delete", Safe: true}
	watchCall  = store.Bidi[watchIn, watchOut]{Name: "config/watch"}
)

type keyIn struct{ Key string }

type listIn struct {
	Prefix, After string
	Limit         int
}

type itemsOut struct{ Items []config.Item }

type setIn struct {
	Item                  config.Item
	IfVersion, Durability string
}

type deleteIn struct{ Key, Durability string }

// watchIn comes once.
type watchIn struct{ Keys, Prefixes []string }

// watchOut is what is there (Initial, until More is not set), then what has changed.
type watchOut struct {
	Items         []config.Item
	Gone          []string
	Initial, More bool
}

// record is a value.
type record struct {
	ID          uint64            `cbor:"1,keyasint"` // with Salt the version
	Salt        uint32            `cbor:"2,keyasint"`
	Value       []byte            `cbor:"3,keyasint,omitempty"`
	ContentType string            `cbor:"4,keyasint,omitempty"`
	Metadata    map[string]string `cbor:"5,keyasint,omitempty"`
}

func (r *record) version() string {
	return strconv.FormatUint(r.ID, 36) + "-" + strconv.FormatUint(uint64(r.Salt), 36)
}

func decode(key string, raw []byte) (config.Item, error) {
	var r record
	if err := store.DecodeRecord(raw, &r); err != nil {
		return config.Item{}, store.Unreadable("configuration", key, err)
	}
	return config.Item{Key: key, Value: r.Value, ContentType: r.ContentType, Metadata: r.Metadata, Version: r.version()}, nil
}

// machine decides, in the process that owns the store, for all components of all sidecars.
type machine struct {
	space *db.Space
	salt  uint32 // of the versions it gives, in case that an older copy of the store was restored

	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

func openMachine(_ context.Context, space *db.Space, _ *slog.Logger) (store.Machine, error) {
	return &machine{space: space, salt: rand.Uint32(), watchers: map[*watcher]struct{}{}}, nil
}

// Close has nothing to end: watches are handlers.
func (m *machine) Close() {}

func (m *machine) Handlers(mux *store.Mux) {
	getCall.Handle(mux, m.get)
	listCall.Handle(mux, m.list)
	setCall.Handle(mux, m.set)
	deleteCall.Handle(mux, m.remove)
	watchCall.Handle(mux, m.watch)
}

func (m *machine) get(_ context.Context, in keyIn) (out itemsOut, err error) {
	v := m.space.View()
	defer v.Close()
	raw, ok, err := v.Get([]byte(in.Key))
	if err != nil || !ok {
		return out, err
	}
	item, err := decode(in.Key, raw)
	return itemsOut{[]config.Item{item}}, err
}

func (m *machine) list(ctx context.Context, in listIn) (out itemsOut, err error) {
	v := m.space.View()
	defer v.Close()
	from := []byte(in.Prefix)
	if in.After != "" && in.After >= in.Prefix {
		from = append([]byte(in.After), 0)
	}
	bytes := 0
	for key, raw := range v.Scan(from, db.After([]byte(in.Prefix))) {
		if err := ctx.Err(); err != nil {
			return itemsOut{}, err
		}
		item, err := decode(string(key), raw)
		if err != nil {
			return itemsOut{}, err
		}
		bytes += len(item.Value)
		if out.Items = append(out.Items, item); len(out.Items) == in.Limit || bytes >= config.PageBytes {
			break
		}
	}
	return out, v.Err()
}

func (m *machine) set(ctx context.Context, in setIn) (version string, err error) {
	key := in.Item.Key
	err = m.space.Update(ctx, db.Durability(in.Durability), func(tx *db.Tx) error {
		if in.IfVersion != "" {
			if err := isVersion(tx, key, in.IfVersion); err != nil {
				return err
			}
		}
		r := record{ID: tx.NextID(), Salt: m.salt, Value: in.Item.Value, ContentType: in.Item.ContentType, Metadata: in.Item.Metadata}
		raw, err := store.EncodeRecord(&r)
		if err != nil {
			return err
		}
		tx.Set([]byte(key), raw)
		tx.Then(func() { m.changed(key) })
		version = r.version()
		return nil
	})
	return version, err
}

func isVersion(tx *db.Tx, key, version string) error {
	raw, ok, err := tx.Get([]byte(key))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: the key is absent", components.ErrConflict)
	}
	item, err := decode(key, raw)
	if err == nil && item.Version != version {
		err = fmt.Errorf("%w: the key is there in version %s", components.ErrConflict, item.Version)
	}
	return err
}

func (m *machine) remove(ctx context.Context, in deleteIn) (struct{}, error) {
	return struct{}{}, m.space.Update(ctx, db.Durability(in.Durability), func(tx *db.Tx) error {
		tx.Delete([]byte(in.Key))
		tx.Then(func() { m.changed(in.Key) })
		return nil
	})
}
