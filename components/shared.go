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
	opening sync.Mutex // held while it is opened or closed
	users   int        // counted by Shared.mu
	value   any        // nil: not open
}

// NewShared makes one that holds nothing.
func NewShared() *Shared { return &Shared{all: map[any]*share{}} }

// Share answers what is known by a key, which open makes for the first user and shut ends after the last one has called
// release. A nil Shared shares with nobody. An error of open is this user's alone: the next one tries again.
func Share[T any](ctx context.Context, s *Shared, key any, open func(context.Context) (T, error), shut func(T)) (
	value T, release func(), err error,
) {
	if s == nil {
		value, err = open(ctx)
		return value, sync.OnceFunc(func() { shut(value) }), err
	}
	one := s.join(key)
	one.opening.Lock()
	defer one.opening.Unlock()
	if one.value == nil {
		if value, err = open(ctx); err != nil {
			s.leave(one)
			return value, nil, err
		}
		one.value = value
	}
	return one.value.(T), sync.OnceFunc(func() {
		one.opening.Lock()
		defer one.opening.Unlock()
		if s.leave(one) {
			shut(one.value.(T))
			one.value = nil
		}
	}), nil
}

func (s *Shared) join(key any) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one == nil {
		one = &share{}
		s.all[key] = one
	}
	one.users++
	return one
}

// leave tells whether that was the last user. Who comes after it waits for what this one holds, opening, and then opens anew.
func (s *Shared) leave(one *share) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.users--
	return one.users == 0
}
