package house

import (
	"fmt"
	"slices"
	"strings"
)

// place is where a package stands in the tree.
type place struct{ layer, capability, driver string }

// The layers, as docs and STYLE draw them: cmd -> runtime -> components <- drivers.
const (
	core       = "components"
	shared     = "components/internal"
	suite      = "conformance suite"
	capability = "capability"
	driver     = "driver"
	build      = "components/all"
	fail       = "internal/failpoint" // which is nothing in what is released
)

func placeOf(path string) place {
	rel, ok := strings.CutPrefix(path, Module+"/")
	if !ok {
		return place{}
	}
	p := strings.Split(rel, "/")
	if rel == fail {
		return place{layer: fail}
	}
	if p[0] != core {
		return place{layer: p[0]}
	}
	switch {
	case len(p) == 1:
		return place{layer: core}
	case p[1] == "internal":
		return place{layer: shared}
	case p[1] == "all":
		return place{layer: build}
	case len(p) == 2 && strings.HasSuffix(p[1], "test"):
		return place{layer: suite}
	case len(p) == 2 || p[2] == "internal":
		return place{layer: capability, capability: p[1]}
	case p[2] == p[1]+"test":
		return place{layer: suite, capability: p[1]}
	}
	return place{layer: driver, capability: p[1], driver: p[2]}
}

// mayImport are the layers of this module that each layer builds on. A layer that is not here is free.
var mayImport = map[string][]string{
	core:          {},
	shared:        {core, shared},
	capability:    {core, capability, shared, fail},
	suite:         {core, capability, suite},
	driver:        {core, capability, shared, driver, fail},
	build:         {driver},
	"proto":       {"proto"},
	"sdk":         {"proto", "sdk"},
	"runtime":     {core, capability, "proto", "runtime", fail},
	"cmd":         {core, capability, build, "proto", "runtime", "sdk", "cmd"},
	"examples":    {"proto", "sdk", "examples"},
	"integration": {"proto", "sdk", "integration"},
}

// inTests are the layers that tests may use besides. Tests of the runtime and of commands are free, but for what is in closed.
var inTests = map[string][]string{
	core:       {suite},
	shared:     {suite},
	capability: {suite, driver},
	suite:      {driver},
	driver:     {suite},
}

// closed are the layers whose tests are held to the table.
var closed = []string{core, shared, capability, suite, driver, "proto", "examples", "integration"}

// ImportFaults finds imports that go against the arrows.
func ImportFaults(all []Package) (faults []string) {
	for _, p := range all {
		at := placeOf(p.ImportPath)
		report := func(tests bool, imports []string) {
			for _, i := range imports {
				if why := refuse(p.ImportPath, at, i, tests); why != "" {
					faults = append(faults, fmt.Sprintf("%s imports %s: %s", p.ImportPath, i, why))
				}
			}
		}
		report(false, p.Imports)
		report(true, p.TestImports)
		report(true, p.XTestImports)
	}
	return faults
}

func refuse(from string, at place, imported string, tests bool) string {
	if why := foreign(from, imported, tests); why != "" {
		return why
	}
	to := placeOf(imported)
	allowed, held := mayImport[at.layer]
	if !held || to.layer == "" || imported == from || tests && !slices.Contains(closed, at.layer) {
		return ""
	}
	switch {
	case at.layer == driver && to.layer == driver && (at.capability != to.capability || at.driver != to.driver):
		return "a driver imports no other driver"
	case !slices.Contains(allowed, to.layer) && !(tests && slices.Contains(inTests[at.layer], to.layer)):
		return "a package of " + at.layer + " imports none of " + to.layer
	case from == Module+"/runtime/mesh" && !tests && strings.HasPrefix(imported, Module+"/runtime/"):
		return "the mesh decides and knows nothing else of the runtime"
	}
	return ""
}

// transports are what the deciding part of the mesh does without.
var transports = []string{"net/http", "crypto/tls", "golang.org/x/net/http2", "google.golang.org/grpc"}

// foreign holds the rules on packages of others.
func foreign(from, imported string, tests bool) string {
	switch {
	case from == Module+"/integration/crash/audit" && strings.Contains(strings.Split(imported, "/")[0], "."):
		return "what judges make crash imports the standard library alone"
	case below(imported, "mosn.io") && !below(from, Module+"/runtime/mesh/mosn"):
		return "only runtime/mesh/mosn imports mosn.io"
	case below(imported, "go.yaml.in/yaml/v4") && !tests && !below(from, Module+"/runtime/config") && !below(from, Module+"/cmd/docgen"):
		return "only runtime/config reads YAML"
	case from == Module+"/runtime/mesh" && !tests && slices.ContainsFunc(transports, func(t string) bool { return below(imported, t) }):
		return "the mesh decides, transports carry"
	case strings.Contains(imported, "/yaml.v") || below(imported, "go.yaml.in/yaml/v3") || below(imported, "sigs.k8s.io/yaml"):
		return "the YAML library is go.yaml.in/yaml/v4: others let unknown fields pass"
	}
	return ""
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// sdkBuildsOn are the modules that an application gets by importing the SDK.
var sdkBuildsOn = []string{Module + "/sdk", Module + "/proto", "google.golang.org/grpc", "google.golang.org/protobuf",
	"google.golang.org/genproto/googleapis/rpc", "golang.org/x"}

// SDKFaults finds what else it would get, in the output of go list -deps.
func SDKFaults(deps []Package) (faults []string) {
	for _, p := range deps {
		if !p.Standard && !slices.ContainsFunc(sdkBuildsOn, func(root string) bool { return below(p.ImportPath, root) }) {
			faults = append(faults, "the SDK brings in "+p.ImportPath)
		}
	}
	return faults
}
