package access

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTokenIsMadeOnceAndPrivate(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	tokens := make([]*Token, 8)
	for i := range tokens {
		wg.Go(func() {
			var err error
			if tokens[i], err = LoadToken(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(filepath.Join(dir, TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if !token.Equal(strings.TrimSpace(string(text))) {
			t.Error("two starts at once do not share the token")
		}
		if token.Equal("") {
			t.Error("the empty text is the token")
		}
	}
	if info, err := os.Stat(filepath.Join(dir, TokenFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Error("left over:", left)
	}
	if other, err := LoadToken(t.TempDir()); err != nil || other.Equal(strings.TrimSpace(string(text))) {
		t.Error("two folders have one token", err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", tokens[0], tokens[0], tokens[0], tokens[0]); strings.Trim(shown, "* ") != "" {
		t.Error("prints", shown)
	}
}

func TestTokenFileThatIsNotSafeIsRefused(t *testing.T) {
	good := strings.Repeat("k", tokenLength) + "\n"
	for _, c := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"readable by others", good, "chmod 600", 0o644},
		{"readable by the group", good, "chmod 600", 0o640},
		{"empty", "", "too short", 0o600},
		{"short", "abc\n", "too short", 0o600},
		{"large", strings.Repeat("k", tokenMax+1), "too large", 0o600},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, TokenFile)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadToken(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("/dev/null", filepath.Join(dir, TokenFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadToken(dir); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Error("a link:", err)
	}
	if _, err := LoadToken(filepath.Join(dir, "missing")); err == nil {
		t.Error("a folder that is not there")
	}
}
