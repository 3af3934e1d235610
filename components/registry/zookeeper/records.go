package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// published are the records of this instance.
type published struct {
	holder  string        // is never used again
	busy    chan struct{} // holds one while what follows changes
	written int64         // the session that it was written in
	number  int           // of the last node
	own     map[place]owned
	stray   map[string]bool // nodes of the session that are to go
}

type place struct {
	service registry.Service
	address string
}

// owned is a record, and the node that it is in.
type owned struct {
	entry
	node string // empty: none yet
}

// entry is what is in a node.
type entry struct {
	node, data string            // of a foreign record, which has nothing else
	Weight     int               `json:"weight"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Since      int64             `json:"since,omitempty"` // transaction in which it was written first, if that was before this one
}

func (e entry) same(other entry) bool {
	return e.node == other.node && e.data == other.data && e.Weight == other.Weight && maps.Equal(e.Metadata, other.Metadata)
}

// folder is a service's node.
func (d *driver) folder(s registry.Service) string {
	if s.Folder != "" {
		return s.Folder
	}
	return d.options.Prefix + "/" + url.PathEscape(s.Namespace) + "," + url.PathEscape(s.Group) + "," + url.PathEscape(s.Name)
}

// addressOf reads the address in the name of a record's node.
func addressOf(name string) (string, error) {
	parts := strings.Split(name, ",")
	if len(parts) != 3 {
		return "", errors.New("it has not three parts")
	}
	return url.PathUnescape(parts[0])
}

// enter waits for the turn to change what is own, and sees that it is in the session that there is now.
func (d *driver) enter(ctx context.Context) error {
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := d.restore(ctx)
	if err != nil {
		<-d.busy
	}
	return err
}

// restore writes what is own anew if there is another session than that it was written in, and removes what should not be there.
func (d *driver) restore(ctx context.Context) error {
	session, _ := d.state()
	switch {
	case d.ended.Err() != nil:
		return errClosed
	case session == 0:
		return backend.Unreachable(ctx, d.where, d.fault())
	}
	if session != d.written {
		clear(d.stray) // with the session all that it had is gone
		for at, o := range d.own {
			o.node = ""
			d.own[at] = o
		}
		d.written = session
	}
	for at, o := range d.own {
		if o.node == "" {
			if err := d.put(ctx, at, o.entry, ""); err != nil {
				return err
			}
		}
	}
	for node := range d.stray {
		if err := d.remove(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) Register(ctx context.Context, r registry.Record) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	at, e := place{r.Service, r.Address}, entry{Weight: r.Weight, Metadata: maps.Clone(r.Metadata)}
	if r.Folder != "" {
		e = entry{node: r.Node, data: r.Data}
	}
	before := d.own[at]
	if before.node == "" || !before.same(e) {
		return d.put(ctx, at, e, before.node)
	}
	there, err := call(ctx, d, func(conn *zk.Conn) (bool, error) {
		there, _, err := conn.Exists(before.node)
		return there, err
	})
	if err != nil || there {
		return err
	}
	return d.put(ctx, at, before.entry, "")
}

// put writes a record into a node, in place of the one that it was in, if any.
func (d *driver) put(ctx context.Context, at place, e entry, before string) error {
	if at.service.Folder != "" {
		return d.putForeign(ctx, at, e, before)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	d.number++
	node := fmt.Sprintf("%s/%s,%s,%d", d.folder(at.service), url.PathEscape(at.address), d.holder, d.number)
	since, err := call(ctx, d, func(conn *zk.Conn) (int64, error) { return d.create(conn, d.folder(at.service), node, data, before) })
	if err != nil {
		d.stray[node] = true // it may be there
		return err
	}
	if e.Since == 0 {
		e.Since = since
	}
	d.own[at] = owned{e, node}
	return nil
}

// create makes a node and removes the one before in one step, and answers the transaction.
func (d *driver) create(conn *zk.Conn, folder, node string, data []byte, before string) (since int64, err error) {
	ops := []any{&zk.CreateRequest{Path: node, Data: data, Acl: d.acl, Flags: zk.FlagEphemeral}}
	if before != "" {
		ops = append(ops, &zk.DeleteRequest{Path: before, Version: -1})
	}
	for {
		if _, err = conn.Multi(ops...); err == nil {
			break
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return 0, err
		}
		// The service has no node, or somebody has removed the record's.
		err = d.container(conn, folder)
		if errors.Is(err, zk.ErrNodeExists) && len(ops) > 1 {
			ops, err = ops[:1], nil
		}
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return 0, err
		}
	}
	_, stat, err := conn.Exists(node)
	if err != nil {
		return 0, err
	}
	return stat.Czxid, nil
}

// container makes a service's node, and those above it, should somebody have removed them.
func (d *driver) container(conn *zk.Conn, folder string) error {
	_, err := conn.CreateContainer(folder, nil, zk.FlagContainer, d.acl)
	if errors.Is(err, zk.ErrNoNode) {
		if err = mkdirs(conn, d.options.Prefix, d.acl); err == nil {
			_, err = conn.CreateContainer(folder, nil, zk.FlagContainer, d.acl)
		}
	}
	return err
}

func (d *driver) Deregister(ctx context.Context, s registry.Service, address string) error {
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	at := place{s, address}
	if node := d.own[at].node; node != "" {
		d.stray[node] = true
	}
	delete(d.own, at) // first: it must not be put back
	return d.restore(ctx)
}

// remove removes a node. That it is absent is no error.
func (d *driver) remove(ctx context.Context, node string) error {
	err := d.do(ctx, func(conn *zk.Conn) error { return d.delete(conn, node) })
	if err == nil || errors.Is(err, zk.ErrNoNode) {
		delete(d.stray, node)
		return nil
	}
	return err
}

// heal writes those records anew whose nodes somebody else has removed.
func (d *driver) heal(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	for at, o := range d.own {
		there, err := call(ctx, d, func(conn *zk.Conn) (bool, error) {
			there, _, err := conn.Exists(o.node)
			return there, err
		})
		if err != nil {
			return err
		}
		if !there {
			d.log.Warn("somebody has removed a record: it is written anew", "op", "register", "record", o.node)
			o.node = ""
			d.own[at] = o
		}
	}
	return d.restore(ctx)
}

// run writes what is own anew whenever there is another session, and removes what should not be there, until Close. Now and then it looks
// whether all is there.
func (d *driver) run() {
	wait := backend.Backoff{}
	look := time.NewTicker(d.options.Session)
	defer look.Stop()
	for {
		session, changed := d.state()
		if session != 0 {
			err := d.heal(d.ended)
			if err == nil {
				wait.Reset()
			} else if d.ended.Err() == nil {
				d.log.Warn("records are not written anew", "op", "register", "err", err)
				if wait.Wait(d.ended) != nil {
					return
				}
				continue
			}
		}
		select {
		case <-changed:
		case <-look.C:
		case <-d.ended.Done():
			return
		}
	}
}
