package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The snippets of the docs are parts of examples, so that they compile and do what they say.
func TestDocsAreExamples(t *testing.T) {
	docs, err := os.ReadFile("../../docs/sdk-go.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("example*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	examples := ""
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples += flat(string(source))
	}
	parts := strings.Split(string(docs), "```go\n")[1:]
	if len(parts) < 8 {
		t.Fatalf("%d snippets", len(parts))
	}
	for _, part := range parts {
		snippet, _, closed := strings.Cut(part, "```")
		if !closed || !strings.Contains(examples, flat(snippet)) {
			t.Errorf("in no example:\n%s", snippet)
		}
	}
}

// flat takes the indentation away.
func flat(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimSpace(line))
		b.WriteByte('\n')
	}
	return b.String()
}
