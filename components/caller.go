package components

import (
	"fmt"
	"strings"
)

// StoredKey is what a back end that many applications share knows the caller's key as: NAMESPACE/APP/KEY. No two pairs of
// caller and key have the same one, since a DNS label holds no slash. It fails as CheckKey does, and with
// ErrUnauthenticated for a caller that is not made of two labels.
func (c Caller) StoredKey(key string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	if c.Namespace == "" || c.App == "" || strings.IndexByte(c.Namespace, '/') >= 0 || strings.IndexByte(c.App, '/') >= 0 {
		return "", fmt.Errorf("%w: %q is no application's identity", ErrUnauthenticated, c)
	}
	return c.Namespace + "/" + c.App + "/" + key, nil
}
