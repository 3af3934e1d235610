// Package configs holds the configurations of the shop's sidecars, so that a program which starts them needs no source tree.
package configs

import "embed"

// FS has one file for each sidecar: orders.yaml, payments.yaml, shipping.yaml, stock.yaml, shelf-2.yaml and till.yaml.
//
//go:embed *.yaml
var FS embed.FS
