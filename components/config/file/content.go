package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

const textPlain = "text/plain; charset=utf-8"

// byExtension is a list of our own: that of the machine differs from one to the next.
var byExtension = map[string]string{
	".json": "application/json", ".yaml": "application/yaml", ".yml": "application/yaml", ".toml": "application/toml",
	".xml": "application/xml", ".txt": textPlain, ".properties": textPlain, ".ini": textPlain, ".conf": textPlain,
}

func contentType(key string, data []byte) string {
	if t, ok := byExtension[strings.ToLower(path.Ext(key))]; ok {
		return t
	}
	trimmed := strings.TrimLeft(string(data[:min(len(data), 64)]), " \t\r\n")
	switch {
	case trimmed != "" && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(data):
		return "application/json"
	case utf8.Valid(data):
		return textPlain
	}
	return "application/octet-stream"
}

// version is the same in each process that looks at the file. The content alone would do to tell two values apart; the time is
// for a value that comes back, lest its version go back too.
func version(data []byte, stamp folder.Stamp) string {
	return strconv.FormatInt(stamp.Changed, 36) + "-" + digest(data)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12])
}
