package main

import "io"

type command struct {
	name, usage, what string
	run               func(args []string, out, errs io.Writer) int
}

func commands() []command {
	return []command{
		{"run", "[-config F] [-app-id ID] [-app-port N] [flags] [-- CMD ARGS...]", "run the sidecar, and CMD beside it", runCommand},
		{"check", "-config F [-dial | -o yaml]", "find all faults of a configuration, or show it with every default", checkCommand},
		{"components", "[CAPABILITY | DRIVER | CAPABILITY/DRIVER] [-o json]", "show drivers, their options, defaults and guarantees", componentsCommand},
		{"call", "[flags] SERVICE/METHOD [JSON...]", "call the sidecar's API, e.g. Cache/Get '{\"key\":\"a\"}'", callCommand},
		{"status", "[-app-id ID] [-o json]", "show how the sidecar is doing", statusCommand},
		{"tx", "[list | show GID | retry GID | abort GID | give-up GID] [-app-id ID] [-state S,...] [-older-than T] [-o json]", "look after the application's transactions", txCommand},
		{"debug", "bundle [-app-id ID] [-out FILE]", "save what helps to find a fault of the sidecar, without its secrets", debugCommand},
		{"explain", "-service S [-protocol P] [-method M] [-header K=V] [-source A] [-o json]", "show where a call would go, and why", explainCommand},
		{"store", "[run | status | verify | compact | backup DIR | restore DIR] [-data-dir D]", "own the local store without a sidecar, or look after it", storeCommand},
		{"schema", "", "print the JSON schema of the configuration", schemaCommand},
		{"version", "[-o json]", "print the version", versionCommand},
	}
}
