package store

import "context"

// Later is Call for who must not wait; false where it would have to, since another process owns the store or none does: then Call
// is to be made. Otherwise done is called once, by any goroutine, perhaps at once, and waits for nothing. What goes in is lent until then.
func (u Unary[In, Out]) Later(ctx context.Context, l *Link, in In, done func(Out, error)) bool {
	s := l.node.now()
	if s == nil || s.machines == nil || !s.begin() {
		return false
	}
	h, ok := s.machines.mux.methods[u.Name].later.(func(context.Context, In, func(Out, error)))
	if !ok {
		s.end()
		return false
	}
	h(ctx, in, func(out Out, err error) {
		s.end()
		switch {
		case err == nil || !s.gone() || ctx.Err() != nil || !lost(err):
			done(out, err)
		case u.Safe:
			go func() { done(u.Call(ctx, l, in)) }()
		default:
			done(out, gone(err))
		}
	})
	return true
}

// Here makes the call if this process owns the store, and does not wait; asked is false if it could not. It is for handlers that do
// not wait, such as one that looks into what its machine has in memory.
func (u Unary[In, Out]) Here(ctx context.Context, l *Link, in In) (out Out, asked bool, err error) {
	s := l.node.now()
	if s == nil || s.machines == nil || !s.begin() {
		return out, false, nil
	}
	defer s.end()
	h, ok := s.machines.mux.methods[u.Name].local.(func(context.Context, In) (Out, error))
	if !ok {
		return out, false, noMethod(u.Name)
	}
	out, err = h(ctx, in)
	return out, err == nil, err
}
