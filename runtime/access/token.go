package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TokenFile is the token's name in the data folder.
const TokenFile = "token"

const (
	tokenLength = 26 // of crypto/rand's text: 128 bits
	tokenMax    = 4 << 10
)

// Token is the secret that lets other users of the machine call. It does not print.
type Token struct{ sum [sha256.Size]byte }

// NewToken keeps the digest of a secret.
func NewToken(secret string) *Token { return &Token{sha256.Sum256([]byte(secret))} }

// Equal takes the same time for any text of a length. A nil Token equals nothing.
func (t *Token) Equal(given string) bool {
	if t == nil {
		return false
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

func (*Token) String() string   { return "***" }
func (*Token) GoString() string { return "***" }

// LoadToken reads the token of a data folder, and makes one if there is none yet. All sidecars of the folder share it. A
// file that others may read, or that is not the sidecar's own user's, is refused.
func LoadToken(dataDir string) (*Token, error) {
	path := filepath.Join(dataDir, TokenFile)
	secret, err := readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeToken(path); err == nil {
			secret, err = readToken(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("API token: %w", err)
	}
	return NewToken(secret), nil
}

func readToken(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s may be read by others (mode %04o): chmod 600 it, or remove it for a new one", path, info.Mode().Perm())
	case !ownFile(info):
		return "", fmt.Errorf("%s belongs to another user", path)
	case info.Size() > tokenMax:
		return "", fmt.Errorf("%s is too large for a token", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < tokenLength {
		return "", fmt.Errorf("%s is too short to be safe: remove it for a new one", path)
	}
	return secret, nil
}

// makeToken writes a new token whole or not at all: of two sidecars that start at once, one wins and both read it.
func makeToken(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(rand.Text() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
