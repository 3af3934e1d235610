package store

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Client is what a driver embeds that does no more than call its machine: it is as well as the store, and leaves it when it is
// closed.
type Client struct{ *Link }

// Close implements components.Closer.
func (c Client) Close(context.Context) error {
	c.Link.Close()
	return nil
}

// CheckDurability refuses a text that is no db.Durability.
func CheckDurability(is string) error {
	if is != string(db.Disk) && is != string(db.OS) {
		return fmt.Errorf("durability is disk or os, not %q", is)
	}
	return nil
}
