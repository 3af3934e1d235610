package nacos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nacos-group/nacos-sdk-go/v2/model"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

const (
	listenAtOnce = 500 // configurations in one question
	listPage     = 100
	busyTries    = 10 // of a configuration that the server is writing just then
	busyPause    = 20 * time.Millisecond
)

// hub is the connection of all components with equal options, and who of them listens to what.
type hub struct {
	client *nacosconn.Client
	log    *slog.Logger
	busy   chan struct{} // held by who changes what the server is to push, so that it hears of that in its order

	mu      sync.Mutex
	topics  map[nacosconn.DataID]map[*watch]struct{}
	watches map[*watch]struct{}
	lists   map[place]*list
}

type place struct{ tenant, group string }

// list is the data ids of a place that were there at a time.
type list struct {
	busy chan struct{}
	at   time.Time
	ids  []string
}

// openHub connects, or shares a connection. With offline it is enough that one will be tried.
func openHub(ctx context.Context, env components.Env, o Options, offline bool) (*hub, func(), error) {
	type key struct{ config any }
	return components.Share(ctx, env.Shared, key{o.Nacos.Key()}, func(ctx context.Context) (*hub, error) {
		h := &hub{log: env.Logger, busy: make(chan struct{}, 1), topics: map[nacosconn.DataID]map[*watch]struct{}{},
			watches: map[*watch]struct{}{}, lists: map[place]*list{}}
		client, err := nacosconn.Open(ctx, env.Logger, nacosconn.Config, o.Nacos, h)
		if err != nil && offline && client != nil && isAway(err) {
			h.log.Warn("nacos cannot be reached: serving the snapshot", "err", err)
			err = nil
		}
		if err != nil && client != nil {
			client.Close()
		}
		h.client = client
		return h, err
	}, func(h *hub) { h.client.Close() })
}

// fetch asks for one configuration.
func (h *hub) fetch(ctx context.Context, id nacosconn.DataID) (answer nacosconn.ConfigAnswer, there bool, err error) {
	for try := 1; ; try++ {
		answer = nacosconn.ConfigAnswer{}
		err := h.client.Read(ctx, nacosconn.ConfigQuery{DataID: id}, &answer)
		switch {
		case err == nil:
			return answer, true, nil
		case nacosconn.IsTold(err, nacosconn.CodeAbsent):
			return answer, false, nil
		case !nacosconn.IsInvalid(err) || !strings.Contains(err.Error(), "being modified"):
			return answer, false, err
		case try == busyTries:
			return answer, false, backend.Unreachable(ctx, h.client.Where(), errors.New("the configuration is being modified all the time"))
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return answer, false, ctx.Err()
		}
	}
}

// Pushed implements nacosconn.Handler.
func (h *hub) Pushed(kind string, body []byte) {
	id := nacosconn.DataID{}
	if kind != nacosconn.ConfigChanged || json.Unmarshal(body, &id) != nil {
		return
	}
	h.changed(id)
}

// changed has those who listen look.
func (h *hub) changed(ids ...nacosconn.DataID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		for w := range h.topics[id] {
			w.note(id)
		}
	}
}

// wrote has those who watch a prefix hear of a key that may be new.
func (h *hub) wrote(id nacosconn.DataID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watches {
		w.offer(id)
	}
}

// Connected implements nacosconn.Handler: all that is listened to is asked for again, and looked at.
func (h *hub) Connected(ctx context.Context) {
	for wait := (backend.Backoff{}); ctx.Err() == nil; _ = wait.Wait(ctx) {
		err := h.listenAgain(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			h.log.Warn("listening to nacos", "err", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, all := range h.topics {
		for w := range all {
			w.note(id)
		}
	}
	for w := range h.watches {
		w.wakeUp()
	}
}

func (h *hub) listenAgain(ctx context.Context) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer func() { <-h.busy }()
	h.mu.Lock()
	ids := make([]nacosconn.DataID, 0, len(h.topics))
	for id := range h.topics {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	return h.listen(ctx, true, ids)
}

func (h *hub) enter(ctx context.Context) error {
	select {
	case h.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen tells the server. The busy lock is held.
func (h *hub) listen(ctx context.Context, on bool, ids []nacosconn.DataID) error {
	for len(ids) > 0 {
		n := min(len(ids), listenAtOnce)
		r := nacosconn.ConfigListen{Listen: on}
		for _, id := range ids[:n] {
			r.Configs = append(r.Configs, model.ConfigListenContext{DataId: id.DataID, Group: id.Group, Tenant: id.Tenant})
		}
		if err := h.client.Read(ctx, r, nil); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// join has the watch told of changes of these from now on. After an error it is told once there is a connection.
func (h *hub) join(ctx context.Context, w *watch, ids []nacosconn.DataID) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer func() { <-h.busy }()
	var first []nacosconn.DataID
	h.mu.Lock()
	for _, id := range ids {
		if h.topics[id] == nil {
			h.topics[id] = map[*watch]struct{}{}
			first = append(first, id)
		}
		h.topics[id][w] = struct{}{}
	}
	h.mu.Unlock()
	return h.listen(ctx, true, first)
}

// leave ends that. It asks the server no longer than a question may take.
func (h *hub) leave(w *watch) {
	ctx := context.Background() // each question has a limit of its own
	_ = h.enter(ctx)
	defer func() { <-h.busy }()
	var last []nacosconn.DataID
	h.mu.Lock()
	delete(h.watches, w)
	for id, all := range h.topics {
		if delete(all, w); len(all) == 0 {
			delete(h.topics, id)
			last = append(last, id)
		}
	}
	h.mu.Unlock()
	_ = h.listen(ctx, false, last) // if it stays, a push is for nobody
}

// names answers the data ids of a place: those of one moment that is not longer ago than age.
func (h *hub) names(ctx context.Context, at place, age time.Duration) ([]string, error) {
	h.mu.Lock()
	l := h.lists[at]
	if l == nil {
		l = &list{busy: make(chan struct{}, 1)}
		h.lists[at] = l
	}
	h.mu.Unlock()
	select {
	case l.busy <- struct{}{}:
		defer func() { <-l.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if time.Since(l.at) < age {
		return l.ids, nil
	}
	now := time.Now()
	ids, err := h.search(ctx, at, "*")
	if err == nil {
		l.at, l.ids = now, ids
	}
	return ids, err
}

// search finds data ids by a pattern, in which * is for any text. Others may come and go meanwhile: one that is there throughout is found.
func (h *hub) search(ctx context.Context, at place, pattern string) (ids []string, err error) {
	found := map[string]bool{}
	for number := 1; ; number++ {
		page := struct {
			Pages int `json:"pagesAvailable"`
			Items []struct {
				DataID string `json:"dataId"`
				Group  string `json:"group"`
				Tenant string `json:"tenant"`
			} `json:"pageItems"`
		}{}
		query := url.Values{"search": {"blur"}, "dataId": {pattern}, "group": {at.group}, "tenant": {at.tenant},
			"pageNo": {strconv.Itoa(number)}, "pageSize": {strconv.Itoa(listPage)}}
		if err := h.client.Get(ctx, "/v1/cs/configs", query, &page); err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		for _, item := range page.Items {
			if item.Group == at.group && item.Tenant == at.tenant && !found[item.DataID] {
				found[item.DataID] = true
				ids = append(ids, item.DataID)
			}
		}
		if number >= page.Pages {
			return ids, nil
		}
	}
}
