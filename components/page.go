package components

import (
	"encoding/base64"
	"fmt"
)

// MaxPage is the largest page of a list, and the one that is meant when none is asked for.
const MaxPage = 1000

// Page reads what a caller asks for: how many entries, and the key after which they begin ("" for the first page).
func Page(size int, token string) (limit int, after string, err error) {
	if size < 0 || size > MaxPage {
		return 0, "", fmt.Errorf("%w: a page size of %d is not between 0 and %d", ErrInvalid, size, MaxPage)
	}
	if size == 0 {
		size = MaxPage
	}
	if token == "" {
		return size, "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || CheckKey(string(raw)) != nil {
		return 0, "", fmt.Errorf("%w: the page token is not one of this list", ErrInvalid)
	}
	return size, string(raw), nil
}

// PageToken is what leads from a page whose last key is given to the next one.
func PageToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
