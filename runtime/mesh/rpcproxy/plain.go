package rpcproxy

import "strings"

const maxText = 8 << 10 // characters of an error's text

// Plain is text as hessian, which Bolt and Dubbo answer in, can write it in one chunk: up to 8192 characters, without what takes two of them in Java.
func Plain(text string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > maxText {
			return -1
		}
		if r > 0xffff {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
