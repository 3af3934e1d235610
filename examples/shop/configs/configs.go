// Package configs holds the configurations of the shop's sidecars, so that a program which starts them needs no source tree.
package configs

import "embed"

// FS has one file for each sidecar: orders.yaml, payments.yaml, shipping.yaml, stock.yaml, shelf-2.yaml and till.yaml.
// The folder on has what other drivers the shop can run on.
//
//go:embed *.yaml on/*.yaml
var FS embed.FS
