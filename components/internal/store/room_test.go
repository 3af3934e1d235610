package store

import (
	"errors"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestACopyNeedsRoom(t *testing.T) {
	if err := roomForCopy(copyRoom); err != nil {
		t.Error(err)
	}
	if err := roomForCopy(copyRoom - 1); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("%v, want that the disk is full", err)
	}
}
