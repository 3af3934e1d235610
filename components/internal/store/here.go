package store

import "context"

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
