package naming

import (
	"math"
	"net/url"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

// URL is what SOFARPC and Dubbo name a provider's node by: SCHEME://HOST:PORT/PATH?KEY=VALUE&..., all of it escaped once more.
type URL struct {
	Scheme, Address, Path string
	Params                []Param // in their order
}

// Param is a pair of a query. In the nodes of both its value is not escaped by itself.
type Param struct{ Key, Value string }

// Node is the name of a node. What would break a query is escaped in values: nobody but sidecars writes such.
func (u URL) Node() string {
	var b strings.Builder
	b.WriteString(u.Scheme + "://" + u.Address)
	if u.Path != "" {
		b.WriteString("/" + u.Path)
	}
	sep := "?"
	for _, p := range u.Params {
		b.WriteString(sep + p.Key + "=" + inner.Replace(p.Value))
		sep = "&"
	}
	return url.QueryEscape(b.String())
}

var inner = strings.NewReplacer("%", "%25", "&", "%26", "=", "%3D", "+", "%2B", "#", "%23")

// ParseNode reads the name of a node; false if it is none of that kind.
func ParseNode(name string) (u URL, params map[string]string, ok bool) {
	text, err := url.QueryUnescape(name)
	if err != nil {
		return u, nil, false
	}
	head, query, _ := strings.Cut(text, "?")
	u.Scheme, head, ok = strings.Cut(head, "://")
	u.Address, u.Path, _ = strings.Cut(head, "/")
	params = map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		if key != "" {
			params[key] = value
			u.Params = append(u.Params, Param{key, value})
		}
	}
	return u, params, ok && u.Scheme != "" && u.Address != ""
}

// Map is a URL's query as metadata of an instance.
func (u URL) Map() map[string]string {
	md := map[string]string{}
	for _, p := range u.Params {
		md[p.Key] = p.Value
	}
	return md
}

// WeightInNacos is that of a record of SOFARPC or Dubbo in Nacos: both write theirs into the metadata alone and leave Nacos's at 1, which is
// what somebody changes at its console. Sidecars write the same into both.
func WeightInNacos(r registry.Record) int {
	if _, ours := Marked(r.Metadata); ours || r.Weight == 0 {
		return r.Weight
	}
	theirs := Weight(r.Metadata["weight"])
	if theirs == 0 {
		return 0
	}
	return max(1, int(min(int64(theirs)*int64(r.Weight)/100, math.MaxInt32)))
}

// Weight reads a share of calls, as both write it: 100 unless it says something else.
func Weight(text string) int {
	if text == "" {
		return 100
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' || n > 1<<20 {
			return 100
		}
		n = n*10 + int(c-'0')
	}
	return n
}
