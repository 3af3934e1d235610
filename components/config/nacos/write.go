package nacos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

const (
	settleFirst = 5 * time.Millisecond // between looks whether the server serves what was written
	settleMost  = 50 * time.Millisecond
)

// An embedded database does not say that a write with a condition was not done. So each write notes who it is by, and a conditional one
// also which writes it follows: then whose is missing has lost, if what it was to follow is there.
const (
	noteMark = "outrigger "
	noteMost = 16 // writes that are named
	noteText = 10 // letters of a name
)

func noteOf(s state) []string {
	if names, ok := strings.CutPrefix(s.Note, noteMark); ok {
		return strings.Fields(names)
	}
	return []string{"at" + strconv.FormatInt(s.Modified, 36)}
}

// write is one call of Set or Delete.
type write struct {
	d      *driver
	id     nacosconn.DataID
	key    string
	before state
}

func (d *driver) begin(ctx context.Context, key string) (*write, error) {
	if err := d.open(); err != nil {
		return nil, err
	}
	id, err := d.options.at(key)
	if err != nil {
		return nil, err
	}
	before, err := d.read(ctx, key)
	return &write{d, id, key, before}, err
}

// Set writes, and waits until the server serves it.
func (d *driver) Set(ctx context.Context, item config.Item, ifVersion string) (string, error) {
	if len(item.Metadata) > 0 {
		return "", fmt.Errorf("%w: nacos keeps no metadata", components.ErrUnsupported)
	}
	kind, err := typeOf(item.ContentType)
	if err != nil {
		return "", err
	}
	w, err := d.begin(ctx, item.Key)
	if err != nil {
		return "", err
	}
	name := rand.Text()[:noteText]
	r := nacosconn.ConfigPublish{DataID: w.id, Content: contentOf(item.Value),
		More: map[string]string{"type": kind, "encryptedDataKey": noteMark + name}}
	if ifVersion == "" {
		if err := d.hub.client.Write(ctx, r); err != nil {
			return "", err
		}
		return w.settle(ctx, r, name)
	}
	if !w.before.there || w.before.version() != ifVersion {
		return "", errConflict
	}
	if sumOf(r.Content) == w.before.MD5 && kind == w.before.ContentType {
		return ifVersion, nil // it is so already
	}
	follows := noteOf(w.before)
	r.CasMD5 = w.before.MD5
	r.More["encryptedDataKey"] += " " + strings.Join(follows[:min(len(follows), noteMost)], " ")
	if err := d.hub.client.Write(ctx, r); err != nil {
		if strings.Contains(err.Error(), "Cas publish fail") {
			err = errConflict
		}
		return "", err
	}
	return w.settle(ctx, r, name)
}

var (
	errConflict  = fmt.Errorf("%w: another value is there", components.ErrConflict)
	errMeanwhile = errors.New("another client has written at the same moment")
	errUnsettled = errors.New("the server does not serve it")
)

// settle waits until the server serves what was written, or what was written after it.
func (w *write) settle(ctx context.Context, r nacosconn.ConfigPublish, name string) (string, error) {
	sum := sumOf(r.Content)
	var now state
	err := w.until(ctx, func(s state) bool {
		now = s
		return s.there && (!w.before.there || s.Modified != w.before.Modified || s.MD5 != w.before.MD5)
	})
	if err != nil {
		return "", err
	}
	w.d.hub.wrote(w.id)
	names := noteOf(now)
	switch {
	case names[0] == name, now.MD5 == sum && sum == w.before.MD5: // the note of a content that stays is not served
		return now.version(), nil
	case r.CasMD5 == "" || slices.Contains(names, name):
		return versionOf(sum, 0), nil // it is there no more
	case slices.Contains(names, noteOf(w.before)[0]):
		return "", errConflict
	}
	return "", backend.Unknown(ctx, w.d.hub.client.Where(), errMeanwhile)
}

// until looks until it is so. A server that does not come to it within the timeout has another to ask.
func (w *write) until(ctx context.Context, settled func(state) bool) error {
	limited, cancel := context.WithTimeout(ctx, w.d.options.Nacos.Timeout)
	defer cancel()
	for wait := (backend.Backoff{First: settleFirst, Most: settleMost}); ; {
		s, err := w.d.read(limited, w.key)
		if err == nil && settled(s) {
			return nil
		}
		if err != nil && limited.Err() == nil {
			return backend.Unknown(ctx, w.d.hub.client.Where(), err)
		}
		if wait.Wait(limited) != nil {
			return backend.Unknown(ctx, w.d.hub.client.Where(), errors.Join(errUnsettled, err))
		}
	}
}

// Delete removes, and waits until the server serves nothing.
func (d *driver) Delete(ctx context.Context, key string) error {
	w, err := d.begin(ctx, key)
	if err != nil {
		return err
	}
	if err := d.hub.client.Write(ctx, nacosconn.ConfigRemove{DataID: w.id}); err != nil {
		return err
	}
	return w.until(ctx, func(s state) bool { return !s.there || w.before.there && s.Modified != w.before.Modified })
}
