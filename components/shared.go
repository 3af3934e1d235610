package components

import (
	"context"
	"sync"
)

// Shared is what instances of a process have in common, such as a store that one process can open only once. Safe for
// concurrent use.
type Shared struct {
	mu  sync.Mutex
	all map[any]*share
}

type share struct {
	opening chan struct{} // holds an element while it is opened, counted or closed, which guards the rest
	users   int
	value   any // counts if there are users
}

// NewShared makes one that holds nothing.
func NewShared() *Shared { return &Shared{all: map[any]*share{}} }

// Share answers what is known by a key, which open makes for the first user and shut ends after the last one has called
// release. Who comes while another opens or shuts it waits, until ctx ends at most. A nil Shared shares with nobody. An error of
// open is this user's alone: the next one tries again.
func Share[T any](ctx context.Context, s *Shared, key any, open func(context.Context) (T, error), shut func(T)) (
	value T, release func(), err error,
) {
	if s == nil {
		value, err = open(ctx)
		return value, sync.OnceFunc(func() { shut(value) }), err
	}
	one := s.share(key)
	select {
	case one.opening <- struct{}{}:
		defer func() { <-one.opening }()
	case <-ctx.Done():
		return value, nil, ctx.Err()
	}
	if one.users == 0 {
		if value, err = open(ctx); err != nil {
			return value, nil, err
		}
		one.value = value
	}
	one.users++
	return one.value.(T), sync.OnceFunc(func() {
		one.opening <- struct{}{} // nobody opens it while there are users
		defer func() { <-one.opening }()
		if one.users--; one.users == 0 {
			shut(one.value.(T))
			one.value = nil
		}
	}), nil
}

func (s *Shared) share(key any) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one == nil {
		one = &share{opening: make(chan struct{}, 1)}
		s.all[key] = one
	}
	return one
}
