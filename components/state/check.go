package state

import (
	"fmt"
	"regexp"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// stored is t as the driver may see it: checked, with stored keys and whole milliseconds. The caller's operations stay as they are.
func stored(caller components.Caller, t Transaction) (Transaction, error) {
	if n := len(t.Operations); n > MaxOperations || n == 0 && t.Barrier == (Barrier{}) {
		return t, invalid("%d operations in one transaction; there must be 1 to %d", n, MaxOperations)
	}
	var err error
	if t.Barrier, err = known(t.Barrier); err != nil {
		return t, err
	}
	if t.Digest = ""; t.IdempotencyKey != "" {
		t.Digest = digest(t)
	}
	operations := make([]Operation, len(t.Operations))
	at := make(map[string]int, len(t.Operations))
	for i, op := range t.Operations {
		op, err := storedOperation(caller, op)
		if err != nil {
			return t, &OperationError{i, err}
		}
		if first, twice := at[op.Key]; twice {
			return t, &OperationError{i, invalid("operation %d is about the same key", first)}
		}
		operations[i], at[op.Key] = op, i
	}
	t.Operations = operations
	if t.Fence, err = storedFence(caller, t.Fence); err != nil {
		return t, err
	}
	if t.Barrier, err = storedBarrier(caller, t.Barrier); err != nil {
		return t, err
	}
	if t.IdempotencyKey != "" {
		if t.IdempotencyKey, err = caller.StoredKey(t.IdempotencyKey); err != nil {
			return t, fmt.Errorf("idempotency key: %w", err)
		}
	}
	return t, nil
}

func storedOperation(caller components.Caller, op Operation) (Operation, error) {
	var err error
	if op.Key, err = caller.StoredKey(op.Key); err != nil {
		return op, err
	}
	switch {
	case op.IfAbsent && op.IfVersion != "":
		return op, invalid("a key cannot be absent and in a version at once")
	case op.Kind == Set:
		op.Item.TTL, err = wholeTTL(op.Item.TTL)
		return op, err
	case op.Kind == Delete && !op.IfAbsent, op.Kind == Check && op.Condition != Condition{}:
		return op, nil
	case op.Kind == Check:
		return op, invalid("a check needs a condition")
	}
	return op, invalid("it neither sets nor deletes nor checks")
}

// componentName is what components can be called. Drivers rely on it to keep the locks of one application from those of another.
var componentName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func storedFence(caller components.Caller, f Fence) (Fence, error) {
	if f == (Fence{}) {
		return f, nil
	}
	if f.Token == 0 {
		return f, invalid("a fence has a token of more than 0")
	}
	if !componentName.MatchString(f.Component) {
		return f, invalid("the fence's component is %.80q, and no lock component can have that name", f.Component)
	}
	var err error
	if f.Name, err = caller.StoredKey(f.Name); err != nil {
		err = fmt.Errorf("the fence's name: %w", err)
	}
	return f, err
}

// known is a barrier with the one word for its op that drivers know.
func known(b Barrier) (Barrier, error) {
	if b == (Barrier{}) {
		return b, nil
	}
	switch b.Op {
	case "compensate":
		b.Op = "compensation"
	case "action", "compensation", "try", "confirm", "cancel":
	default:
		return b, invalid("the barrier's op is %.80q; there are action, compensation (or compensate), try, confirm and cancel", b.Op)
	}
	return b, nil
}

func storedBarrier(caller components.Caller, b Barrier) (Barrier, error) {
	if b == (Barrier{}) {
		return b, nil
	}
	err := components.CheckKey(b.Branch)
	if err != nil {
		return b, fmt.Errorf("the barrier's branch: %w", err)
	}
	if b.GID, err = caller.StoredKey(b.GID); err != nil {
		err = fmt.Errorf("the barrier's gid: %w", err)
	}
	return b, err
}

// wholeTTL rounds up to whole milliseconds, which is what every store can keep: nothing expires before its time.
func wholeTTL(ttl time.Duration) (time.Duration, error) {
	switch {
	case ttl == 0:
		return 0, nil
	case ttl < MinTTL:
		return 0, invalid("a time to live of %s is shorter than %s", ttl, MinTTL)
	case ttl > MaxTTL:
		return 0, invalid("a time to live of %s is longer than %s", ttl, MaxTTL)
	}
	return (ttl + time.Millisecond - 1).Truncate(time.Millisecond), nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", components.ErrInvalid, fmt.Sprintf(format, args...))
}
