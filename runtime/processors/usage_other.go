//go:build !unix

package processors

func used() (usage, bool) { return usage{}, false }
