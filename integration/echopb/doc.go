// Package echopb is the service that the integration tests call through sidecars.
package echopb

//go:generate go tool -modfile=../../tools/go.mod buf generate --template buf.gen.yaml .
