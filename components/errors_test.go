package components_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestDetailAddsToAnErrorAndHidesNothing(t *testing.T) {
	cause := errors.New("connection refused")
	err := components.WithReason(fmt.Errorf("get: %w: %w", components.ErrUnavailable, cause), "BACKEND_AWAY", "limit", "5", "half a pair")
	if !errors.Is(err, components.ErrUnavailable) || !errors.Is(err, cause) || err.Error() != "get: unavailable: connection refused" {
		t.Errorf("%v", err)
	}
	if d := detail(t, err); d.Reason != "BACKEND_AWAY" || !maps.Equal(d.Metadata, map[string]string{"limit": "5"}) {
		t.Errorf("%+v", d)
	}
}

func TestKindsAreApart(t *testing.T) {
	kinds := []error{components.ErrNotFound, components.ErrExists, components.ErrConflict, components.ErrInvalid, components.ErrPrecondition,
		components.ErrUnsupported, components.ErrExhausted, components.ErrDenied, components.ErrUnauthenticated, components.ErrUnavailable, components.ErrDamaged}
	for i, a := range kinds {
		for j, b := range kinds {
			if errors.Is(a, b) != (i == j) || (a.Error() == b.Error()) != (i == j) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}

func TestAnErrorIsNamedOnce(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	other := components.NewComponent[*store](components.ID{Capability: "lock", Name: "one"}, components.Limits{}, nil)
	err := c.Named(c.Named(components.WithReason(components.ErrInvalid, "ODD")))
	if want := `cache "sessions": invalid argument`; err.Error() != want || detail(t, err).Reason != "ODD" {
		t.Errorf("%v, want %s", err, want)
	}
	if got, want := other.Named(err).Error(), `lock "one": cache "sessions": invalid argument`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
