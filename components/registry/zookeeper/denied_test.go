//go:build servers

package zookeeper_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// TestForeignRecordThatMayNotBeRead is left out, and the others are told all the same; one whose name says everything is told, too. Where none
// may be read that is an error, and no empty list.
func TestForeignRecordThatMayNotBeRead(t *testing.T) {
	d, other, s := open(t, options(t)), client(t), foreign()
	lists := follow(t, d, s)
	next(t, lists)
	parent, secret := zk.WorldACL(zk.PermAll), zk.DigestACL(zk.PermAll, "somebody", "else")
	path := ""
	for _, part := range []string{s.Folder[:len(s.Folder)-len("/peer.Hello/providers")], "/peer.Hello", "/providers"} {
		path += part
		_, err := other.Create(path, nil, 0, parent)
		must(t, err)
	}
	create := func(name string, acl []zk.ACL) {
		t.Helper()
		_, err := other.Create(s.Folder+"/"+name, []byte("x"), zk.FlagEphemeral, acl)
		must(t, err)
	}
	create("hidden", secret)
	var detail *components.Detail
	if err := d.Watch(t.Context(), s, nil); !errors.As(err, &detail) || detail.Reason != backend.ReasonRefused {
		t.Errorf("what may not be read at all: %v", err)
	}
	url := "dubbo%3A%2F%2F10.0.0.1%3A20880"
	create(url, secret)
	create("plain", parent)
	for told := ""; told != url+" plain "; {
		told = ""
		all := next(t, lists)
		slices.SortFunc(all, func(a, b registry.Record) int { return strings.Compare(a.Node, b.Node) })
		for _, r := range all {
			told += r.Node + " "
		}
	}
	create("hidden2", secret)
	create("plain2", parent)
	for len(next(t, lists)) != 3 {
	}
}
