package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// A foreign record is an ephemeral node whose name and content others know. Its name is the same whoever writes it, so that a sidecar that
// is started anew takes the place of the node that is left of the one before, in one step that watchers hear of once at most. The folders
// above it stay, as those stay that others make.

var _ registry.Foreigners = (*driver)(nil)

// CheckForeign implements registry.Foreigners: what is not ours must lie elsewhere.
func (d *driver) CheckForeign(s registry.Service) error {
	if s.Folder == "" || !d.foreign(s.Folder) {
		return fmt.Errorf("%w: %q is no folder outside of %s", components.ErrInvalid, s.Folder, d.options.Prefix)
	}
	return nil
}

// foreign tells whether a path is not below the prefix.
func (d *driver) foreign(path string) bool {
	return path != d.options.Prefix && !strings.HasPrefix(path, d.options.Prefix+"/")
}

// putForeign writes a foreign record, in place of the node that it was in, if any.
func (d *driver) putForeign(ctx context.Context, at place, e entry, before string) error {
	node := at.service.Folder + "/" + e.node
	_, err := call(ctx, d, func(conn *zk.Conn) (struct{}, error) {
		return struct{}{}, d.claim(conn, at.service.Folder, node, e.data, before)
	})
	if err != nil {
		d.stray[node] = true // it may be there
		return err
	}
	delete(d.stray, node)
	d.own[at] = owned{e, node}
	return nil
}

// claim makes a node of this session, in place of one with its name and of the one before.
func (d *driver) claim(conn *zk.Conn, folder, node, data, before string) error {
	olds := []string{node}
	if before != "" && before != node {
		olds = append(olds, before)
	}
	for {
		var ops []any
		for _, old := range olds {
			there, _, err := conn.Exists(old)
			if err != nil {
				return err
			}
			if there {
				ops = append(ops, &zk.DeleteRequest{Path: old, Version: -1})
			}
		}
		_, err := conn.Multi(append(ops, &zk.CreateRequest{Path: node, Data: []byte(data), Acl: d.open(), Flags: zk.FlagEphemeral})...)
		switch {
		case errors.Is(err, zk.ErrNodeExists): // somebody was first
		case errors.Is(err, zk.ErrNoNode): // an old one has gone meanwhile, or the folder is not there
			if err := mkdirs(conn, folder, d.open()); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// open lets everybody read.
func (d *driver) open() []zk.ACL {
	if d.options.User == "" {
		return d.acl
	}
	return append(zk.WorldACL(zk.PermRead), d.acl...)
}

// delete removes a node; a foreign one only if it is of this session: another sidecar may have taken its place.
func (d *driver) delete(conn *zk.Conn, node string) error {
	if d.foreign(node) {
		there, stat, err := conn.Exists(node)
		if err != nil {
			return err
		}
		if !there || stat.EphemeralOwner != conn.SessionID() {
			return zk.ErrNoNode
		}
	}
	return conn.Delete(node, -1)
}

// awaited is a folder that is not there: nobody has registered, and nothing is made of that.
func (d *driver) awaited(conn *zk.Conn, folder string, got children, asked bool) (children, error) {
	if asked {
		return got, nil
	}
	there, _, news, err := conn.ExistsW(folder)
	if err != nil {
		return got, err
	}
	if there { // it has come meanwhile: the next reading, which is due at once, finds what is in it
		fired := make(chan zk.Event, 1)
		fired <- zk.Event{}
		news = fired
	}
	got.names, got.news = nil, news
	return got, nil
}

// get reads a node. A foreign one is heard of when it changes, or when another takes its place (see heard), unless its name is a URL.
func (d *driver) get(conn *zk.Conn, folder, name string) (data []byte, stat *zk.Stat, err error) {
	if !d.foreign(folder) || isURL(name) {
		return conn.Get(folder + "/" + name)
	}
	data, stat, _, err = conn.GetW(folder + "/" + name)
	return data, stat, err
}

// isURL tells whether the name of a node is one: then it says everything.
func isURL(name string) bool { return strings.Contains(name, "%3A%2F%2F") }

// unread is a foreign node that may not be read.
func unread(name string) (f found) {
	if f.denied = !isURL(name); !f.denied {
		f.Since = 1 // it is there
	}
	return f
}

// foreigners are the nodes of a folder that were read, as they are. Anybody may write there what others may not read: that is left out, but
// an error where there is nothing else, and no empty list.
func (d *driver) foreigners(l *list, names []string, all []found) (records []registry.Record, err error) {
	denied := map[string]bool{}
	for i, f := range all {
		if f.Since != 0 {
			records = append(records, registry.Record{Node: names[i], Data: f.data})
		}
		if !f.denied {
			continue
		}
		if denied[names[i]] = true; !l.denied[names[i]] {
			d.log.Warn("what may not be read is not listed", "op", "watch", "record", l.folder+"/"+names[i])
		}
	}
	if l.denied = denied; len(denied) > 0 && records == nil {
		return nil, backend.Refused(d.where, zk.ErrNoAuth)
	}
	return records, nil
}
