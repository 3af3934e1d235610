package config

import (
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	maxSelected    = 1000
	maxMetadata    = 64 << 10
	maxContentType = 256
)

// stored is the driver's key for a caller's key. That no segment is "." or ".." keeps callers in their namespace even where a
// back end reads keys as paths.
func stored(caller components.Caller, key string) (string, error) {
	if err := components.CheckKey(key); err != nil {
		return "", err
	}
	if err := checkCaller(caller); err != nil {
		return "", err
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("%w: key %q: between slashes must be a name, not %q", components.ErrInvalid, key, segment)
		}
	}
	return caller.Namespace + "/" + key, nil
}

func storedPrefix(caller components.Caller, prefix string) (string, error) {
	if err := components.CheckPrefix(prefix); err != nil {
		return "", err
	}
	if err := checkCaller(caller); err != nil {
		return "", err
	}
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		if _, err := stored(caller, prefix[:i]); err != nil {
			return "", err
		}
	}
	return caller.Namespace + "/" + prefix, nil
}

func checkCaller(c components.Caller) error {
	if c.Namespace == "" || strings.ContainsAny(c.Namespace, "/.\x00") {
		return fmt.Errorf("%w: %q is no application's identity", components.ErrUnauthenticated, c)
	}
	return nil
}

func storedSelection(caller components.Caller, sel Selection) (Selection, error) {
	var full Selection
	if n := len(sel.Keys) + len(sel.Prefixes); n == 0 || n > maxSelected {
		return full, fmt.Errorf("%w: %d keys and prefixes are not between 1 and %d", components.ErrInvalid, n, maxSelected)
	}
	for _, key := range sel.Keys {
		k, err := stored(caller, key)
		if err != nil {
			return full, err
		}
		full.Keys = append(full.Keys, k)
	}
	for _, prefix := range sel.Prefixes {
		p, err := storedPrefix(caller, prefix)
		if err != nil {
			return full, err
		}
		full.Prefixes = append(full.Prefixes, p)
	}
	return full, nil
}

func checkItem(item Item) error {
	if len(item.Value) > MaxValue {
		return fmt.Errorf("%w: the value of %q has %d bytes, more than %d", components.ErrExhausted, item.Key, len(item.Value), MaxValue)
	}
	if len(item.ContentType) > maxContentType || strings.ContainsAny(item.ContentType, "\x00\r\n") {
		return fmt.Errorf("%w: the content type is not one", components.ErrInvalid)
	}
	size := 0
	for k, v := range item.Metadata {
		if err := components.CheckKey(k); err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		return fmt.Errorf("%w: the metadata of %q has %d bytes, more than %d", components.ErrExhausted, item.Key, size, maxMetadata)
	}
	return nil
}
