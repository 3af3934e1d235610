package nacos

import (
	"crypto/md5" //nolint:gosec // it is what Nacos compares contents by
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

const (
	escape = "::"      // before the two hexadecimal digits of a byte that Nacos does not take in a data id
	cipher = "cipher-" // servers encrypt what begins so

	// binary is before the base64 of a value that Nacos does not take as it is.
	binary = "outrigger-base64:"
)

func isPlain(c byte) bool { return nacosconn.IsWord(c) || c == '.' || c == '_' }

// dataID writes a key as Nacos takes it: a slash is a colon.
func dataID(key string) string {
	var out strings.Builder
	for i, segment := range strings.Split(key, "/") {
		if i > 0 {
			out.WriteByte(':')
		}
		out.WriteString(nacosconn.Escape(segment, escape, isPlain))
	}
	return out.String()
}

// keyOf reads a data id back. Those that dataID does not write are of nobody here.
func keyOf(id string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(id); i++ {
		switch {
		case id[i] != ':':
			out.WriteByte(id[i])
		case strings.HasPrefix(id[i:], escape) && len(id) >= i+4:
			c, err := strconv.ParseUint(id[i+2:i+4], 16, 8)
			if err != nil {
				out.WriteByte('/')
				continue
			}
			out.WriteByte(byte(c))
			i += 3
		default:
			out.WriteByte('/')
		}
	}
	key := out.String()
	return key, isKey(key) && dataID(key) == id
}

// isKey tells whether a key is one that the front would take.
func isKey(key string) bool {
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return components.CheckKey(key) == nil && !strings.HasPrefix(key, cipher)
}

// at answers where a full key is, NAMESPACE/KEY.
func (o Options) at(full string) (nacosconn.DataID, error) {
	namespace, key, _ := strings.Cut(full, "/")
	if strings.HasPrefix(key, cipher) {
		return nacosconn.DataID{}, fmt.Errorf("%w: key %q: Nacos encrypts what begins with %s", components.ErrInvalid, key, cipher)
	}
	return nacosconn.DataID{DataID: dataID(key), Group: o.Group, Tenant: o.tenant(namespace)}, nil
}

// tenant is the namespace as the configuration part of Nacos names it.
func (o Options) tenant(namespace string) string {
	if id := nacosconn.Namespace(o.Namespaces, namespace); id != "public" {
		return id
	}
	return ""
}

// Nacos has names of its own for some types.
var types = map[string]string{
	"": "text", "text/plain": "text", "application/json": "json", "application/xml": "xml", "application/yaml": "yaml", "text/html": "html",
	"text/x-java-properties": "properties", "application/toml": "toml",
}

var typesBack = func() map[string]string {
	back := map[string]string{}
	for ours, theirs := range types {
		if ours != "" {
			back[theirs] = ours
		}
	}
	return back
}()

// maxType is the longest type that Nacos keeps, in bytes.
const maxType = 32

func typeOf(contentType string) (string, error) {
	if t, ok := types[contentType]; ok {
		return t, nil
	}
	if len(contentType) > maxType || !strings.Contains(contentType, "/") || !utf8.ValidString(contentType) {
		return "", fmt.Errorf("%w: nacos does not keep the content type %q", components.ErrUnsupported, contentType)
	}
	return contentType, nil
}

func contentTypeOf(t string) string {
	if ours, ok := typesBack[t]; ok {
		return ours
	}
	if strings.Contains(t, "/") {
		return t
	}
	return "text/plain"
}

// contentOf writes a value as text: as it is, if Nacos takes that and gives it back unchanged.
func contentOf(value []byte) string {
	text := string(value)
	if strings.TrimSpace(text) == "" || !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 || strings.HasPrefix(text, binary) {
		return binary + base64.StdEncoding.EncodeToString(value)
	}
	return text
}

func valueOf(content string) []byte {
	if coded, ok := strings.CutPrefix(content, binary); ok {
		if value, err := base64.StdEncoding.DecodeString(coded); err == nil {
			return value
		}
	}
	return []byte(content)
}

func sumOf(content string) string {
	sum := md5.Sum([]byte(content)) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}
