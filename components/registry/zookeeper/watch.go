package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// lists are the services that are watched, or were: ZooKeeper keeps a watch until it has fired, and the library each channel for it, so
// that one is used again when the next watcher comes.
type lists struct {
	following sync.WaitGroup
	listing   sync.Mutex
	all       map[string]*list // by folder
}

// list is a service's records, which one goroutine reads for all who watch them.
type list struct {
	folder string
	news   <-chan zk.Event  // fires when nodes come or go; nil: not asked for. Of the goroutine, as is:
	read   map[string]found // by name of the node
	denied map[string]bool  // names of foreign ones that may not be read
	ask    chan struct{}    // holds one: read it again

	users int           // with listing, as are:
	stop  func()        // of the goroutine
	ended chan struct{} // closed when it has ended

	mu    sync.Mutex
	stale []string // names of foreign nodes that have changed, or whose watches are gone
	view
}

// view is what is known of a list.
type view struct {
	records  []registry.Record
	version  int           // grows when the records change
	begun    int           // readings
	finished int           // number of the last reading that has come to an end
	err      error         // that it ended with
	changed  chan struct{} // closed and replaced when these do
}

// found is a record that somebody has written.
type found struct {
	entry
	address string
	denied  bool // it may not be read
}

// Watch tells first what a reading has found that began after the call, and then what the list becomes.
func (d *driver) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	l, first, leave, err := d.follow(s)
	if err != nil {
		return err
	}
	defer leave()
	for told := -1; ; {
		v := l.look()
		due := v.version > told
		if told < 0 {
			due = v.finished >= first
		}
		switch {
		case due && v.err == nil:
			told = v.version
			if err := report(records(s, v.records)); err != nil {
				return err
			}
			continue
		case due && told < 0:
			return v.err
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ended.Done():
			return errClosed
		}
	}
}

func (l *list) look() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}

// update changes what is known of a list.
func (l *list) update(change func(*view)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.view)
	close(l.changed)
	l.changed = make(chan struct{})
}

// outdate has a foreign node read again that was read before.
func (d *driver) outdate(node string) {
	folder, name := path.Split(node)
	d.listing.Lock()
	l := d.all[strings.TrimSuffix(folder, "/")]
	d.listing.Unlock()
	if l == nil || !d.foreign(l.folder) {
		return
	}
	l.mu.Lock()
	l.stale = append(l.stale, name)
	l.mu.Unlock()
	l.askFor()
}

// askFor has the list read again.
func (l *list) askFor() {
	select {
	case l.ask <- struct{}{}:
	default:
	}
}

// follow has a service's list read until leave, and answers the number of the first reading that begins from now on.
func (d *driver) follow(s registry.Service) (l *list, first int, leave func(), err error) {
	d.listing.Lock()
	defer d.listing.Unlock()
	if d.ended.Err() != nil {
		return nil, 0, nil, errClosed
	}
	folder := d.folder(s)
	if l = d.all[folder]; l == nil {
		l = &list{folder: folder, read: map[string]found{}, ask: make(chan struct{}, 1), view: view{changed: make(chan struct{})}}
		l.ended = make(chan struct{})
		close(l.ended)
		d.all[folder] = l
	}
	first = l.look().begun + 1
	if l.users++; l.users == 1 {
		before, ended := l.ended, make(chan struct{})
		ctx, stop := context.WithCancel(d.ended)
		l.stop, l.ended = stop, ended
		d.following.Go(func() {
			defer close(ended)
			<-before
			d.keep(ctx, l)
		})
	} else {
		l.askFor()
	}
	return l, first, func() {
		d.listing.Lock()
		defer d.listing.Unlock()
		if l.users--; l.users == 0 {
			l.stop()
		}
	}, nil
}

// keep reads a list, and again when it has changed, when somebody asks for it, and when there is another connection: what happened between
// two of them may not be told.
func (d *driver) keep(ctx context.Context, l *list) {
	wait := backend.Backoff{}
	for ctx.Err() == nil {
		l.update(func(v *view) { v.begun++ })
		_, changed := d.state()
		records, err := d.readAll(ctx, l)
		if ctx.Err() != nil {
			return
		}
		l.update(func(v *view) {
			v.finished, v.err = v.begun, err
			if err == nil && (v.version == 0 || !slices.EqualFunc(v.records, records, same)) {
				v.records, v.version = records, v.version+1
			}
		})
		var again <-chan time.Time
		if err == nil {
			wait.Reset()
		} else {
			again = time.After(wait.Next())
		}
		select {
		case <-l.news:
			l.news = nil
		case <-l.ask:
		case <-changed:
		case <-again:
		case <-ctx.Done():
		}
	}
}

func same(a, b registry.Record) bool {
	return a.Address == b.Address && a.Node == b.Node && a.Data == b.Data && a.Weight == b.Weight && maps.Equal(a.Metadata, b.Metadata)
}

// children is what the library answers for a node.
type children struct {
	names []string
	news  <-chan zk.Event
}

// readAll reads what has come since it was read last, and has the server tell of what comes next.
func (d *driver) readAll(ctx context.Context, l *list) ([]registry.Record, error) {
	asked := l.news != nil
	got, err := call(ctx, d, func(conn *zk.Conn) (got children, err error) {
		if _, err := conn.Sync(l.folder); err != nil { // with what others were told is done
			return got, err
		}
		for {
			if asked {
				got.names, _, err = conn.Children(l.folder)
			} else {
				got.names, _, got.news, err = conn.ChildrenW(l.folder)
			}
			if !errors.Is(err, zk.ErrNoNode) {
				return got, err
			}
			if d.foreign(l.folder) {
				return d.awaited(conn, l.folder, got, asked)
			}
			if err = d.container(conn, l.folder); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return got, err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if !asked {
		l.news = got.news
	}
	return d.readNew(ctx, l, got.names)
}

const readAtOnce = 16

// readNew reads the nodes that were not read before, and foreign ones that have changed: ours never do.
func (d *driver) readNew(ctx context.Context, l *list, names []string) ([]registry.Record, error) {
	l.mu.Lock()
	for _, name := range l.stale {
		delete(l.read, name)
	}
	l.stale = nil
	l.mu.Unlock()
	all := make([]found, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, name := range names {
		if f, ok := l.read[name]; ok {
			all[i] = f
			continue
		}
		group.Go(func() (err error) {
			all[i], err = call(ctx, d, func(conn *zk.Conn) (f found, err error) {
				data, stat, err := d.get(conn, l.folder, name)
				if errors.Is(err, zk.ErrNoNode) { // it has gone meanwhile, of which we hear
					return f, nil
				}
				switch {
				case errors.Is(err, zk.ErrNoAuth) && d.foreign(l.folder):
					return unread(name), nil
				case err != nil:
				case d.foreign(l.folder):
					f.data, f.Since = string(data), stat.Czxid
				default:
					f = d.decode(name, data, stat.Czxid)
				}
				return f, err
			})
			return err
		})
	}
	err := group.Wait()
	clear(l.read)
	for i, f := range all {
		if f.Since != 0 {
			l.read[names[i]] = f
		}
	}
	if err != nil {
		return nil, err
	}
	if d.foreign(l.folder) {
		return d.foreigners(l, names, all)
	}
	newest := map[string]found{}
	for _, f := range all {
		if f.address != "" && f.Since > newest[f.address].Since {
			newest[f.address] = f
		}
	}
	records := make([]registry.Record, 0, len(newest))
	for _, address := range slices.Sorted(maps.Keys(newest)) {
		f := newest[address]
		records = append(records, registry.Record{Address: address, Weight: f.Weight, Metadata: f.Metadata})
	}
	return records, nil
}

// decode reads a record. What is none has no address: anybody may write there.
func (d *driver) decode(name string, data []byte, written int64) (f found) {
	address, err := addressOf(name)
	if err == nil {
		err = json.Unmarshal(data, &f.entry)
	}
	if err != nil {
		d.log.Warn("what is no record is not listed", "op", "watch", "record", name, "err", err)
		return found{entry: entry{Since: written}}
	}
	if f.address = address; f.Since == 0 {
		f.Since = written
	}
	return f
}

// records are those of a service, for one who watches them.
func records(s registry.Service, all []registry.Record) []registry.Record {
	own := make([]registry.Record, len(all))
	for i, r := range all {
		r.Service, r.Metadata = s, maps.Clone(r.Metadata)
		own[i] = r
	}
	return own
}
