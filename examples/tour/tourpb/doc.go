// Package tourpb is the tour's own service.
package tourpb

//go:generate go tool -modfile=../../../tools/go.mod buf generate --template buf.gen.yaml .
