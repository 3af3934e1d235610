package redis

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// bell listens for what is new in all topics that somebody subscribes to, over one connection.
type bell struct {
	from *redis.PubSub
	done chan struct{}

	mu        sync.Mutex
	listeners map[string]map[*session]bool // by channel
}

func newBell(client redis.UniversalClient) *bell {
	b := &bell{from: client.Subscribe(context.Background()), done: make(chan struct{}), listeners: map[string]map[*session]bool{}}
	go b.listen()
	return b
}

func (b *bell) close() {
	_ = b.from.Close()
	<-b.done
}

// listen wakes sessions. After the connection has been made anew it wakes all: something may have been missed.
func (b *bell) listen() {
	defer close(b.done)
	for m := range b.from.ChannelWithSubscriptions() {
		b.mu.Lock()
		switch m := m.(type) {
		case *redis.Subscription:
			for s := range b.listeners[m.Channel] {
				poke(s.news)
			}
		case *redis.Message:
			for s := range b.listeners[m.Channel] {
				if m.Payload == "" || m.Payload == s.group {
					poke(s.news)
				}
			}
		}
		b.mu.Unlock()
	}
}

// add has a session be woken. If it cannot be told to the server now, the library does so when it can.
func (b *bell) add(channel string, s *session) {
	b.mu.Lock()
	first := b.listeners[channel] == nil
	if first {
		b.listeners[channel] = map[*session]bool{}
	}
	b.listeners[channel][s] = true
	b.mu.Unlock()
	if first {
		_ = b.from.Subscribe(context.Background(), channel)
	}
}

func (b *bell) remove(channel string, s *session) {
	b.mu.Lock()
	delete(b.listeners[channel], s)
	last := len(b.listeners[channel]) == 0
	if last {
		delete(b.listeners, channel)
	}
	b.mu.Unlock()
	if last {
		_ = b.from.Unsubscribe(context.Background(), channel)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
