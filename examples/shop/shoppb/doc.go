// Package shoppb is the shop's own API: plain gRPC, which knows nothing of sidecars.
package shoppb

//go:generate go tool -modfile=../../../tools/go.mod buf generate --template buf.gen.yaml .
