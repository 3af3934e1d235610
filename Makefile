# Everything is done from here; CI does the same. `make help` lists the targets.
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
UNIT = $$($(GO) list ./... | grep -v /integration)
# All that is built is built as the binary is, so that each package is compiled once; but for race, which takes cgo. What is
# tested is vetted by lint alone.
export CGO_ENABLED = 0
export GOFLAGS := $(filter-out -trimpath -vet=%,$(shell $(GO) env GOFLAGS)) -trimpath -vet=off
race: export CGO_ENABLED = 1
# One package more than there are cores, since many tests wait.
BESIDE = -p $$(($$(getconf _NPROCESSORS_ONLN) + 1))

all: build lint test ## build, lint and test

build: ## build bin/outrigger
	$(GO) build -ldflags "-s -w" -o bin/outrigger ./cmd/outrigger

run: build ## run a sidecar on configs/hello.yaml with a sample application
	bin/outrigger run -config configs/hello.yaml -- python3 examples/hello/app.py

demo: ## build and run the shop, and check what it does; ON=redis-kafka-nacos: on real servers, installed and started here
	$(if $(ON),$(GO) run ./integration/servers/cmd $(subst -, ,$(ON)) -- )$(GO) run ./examples/shop/demo$(if $(ON), -on $(ON))

test: ## run the tests that need nothing but Go; RESULTS=file has what those of the mesh have shown
	$(if $(RESULTS),$(GO) run ./integration/suite -unit -features $(RESULTS),$(GO) test $(BESIDE)) $(UNIT)

race: ## the same with the race detector, but for what links MOSN, which is not free of races
	$(GO) test $(BESIDE) -race -timeout 30m $$($(GO) list ./... | grep -v -e /integration -e /runtime/mesh/mosn)

mutants: ## show that the conformance suites catch broken drivers
	@git grep -q '^//go:build mutants' components # or there is nothing to show
	$(GO) test -p 4 -tags mutants -run '^TestMutants$$' -v $$(git grep -l '^//go:build mutants' components | xargs dirname | sed 's,^,./,')

SUITE = OUTRIGGER_BINARY=$(CURDIR)/bin/outrigger bin/suite $(if $(ONLY),-only '$(ONLY)',) $(if $(RESULTS),-features $(RESULTS),) $(if $(WITHIN),-within '$(WITHIN)',)

integration: build ## black box: the binary, its peers and real servers, those of SERVICES by docker-compose, NATIVE=1 all of them installed and started here; ONLY=name runs one suite
	$(GO) build -o bin/suite ./integration/suite
	$(if $(NATIVE),,$(GO) run ./integration/compose $(or $(SERVICES),redis etcd postgres) -- env )$(SUITE) $(PACKAGES)

soak: build schedules ## faults of real servers at full length, 10,000 transfers under kills, with reports, and schedules; FAULT=30s is how long a fault lasts, TX=n how many transfers
	$(GO) build -o bin/suite ./integration/suite
	OUTRIGGER_FAULT=$(or $(FAULT),30s) $(SUITE) -report docs/reports/soak.md ./integration/backends
	$(MAKE) crash TX=$(or $(TX),10000) REPORT=docs/reports/crash.md

integration-compose: build ## conformance and faults on the servers of integration/docker-compose.yml, images built here; SERVICES="redis etcd postgres"
	$(GO) build -o bin/suite ./integration/suite
	$(GO) run ./integration/compose -stand-ins $(or $(SERVICES),redis etcd postgres) -- \
	  env OUTRIGGER_BINARY=$(CURDIR)/bin/outrigger bin/suite -only '$(or $(ONLY),^TestDrivers$$/(redis|etcd|postgres)|^TestRedisFaults$$)' ./integration/conformance ./integration/backends

drivers: ## the drivers' tests on real servers, installed and started here; ONLY=redis tries those of one
	$(GO) build -o bin/suite ./integration/suite
	bin/suite -only 'TestDrivers$(if $(ONLY),/$(ONLY),)' ./integration/conformance

crash-fs: ## cut the power on a disk that forgets what was not synced; SEED=n repeats a run, RUNS=n runs it n times (20)
	@$(GO) test -count=$(or $(RUNS),20) -v -run "^TestPowerCuts" ./components/all

schedules: ## transfers in a bubble of time while sidecars end, power goes and calls are lost, repeated and late; SCHEDULES=n has n (2000)
	SCHEDULES=$(or $(SCHEDULES),2000) $(GO) test -count=1 -timeout 2h -run '^TestBank$$' ./components/all

CRASH = bin/crash -driver $(or $(DRIVER),local) -tx $(or $(TX),400) -seed $(or $(SEED),7) -barrier=$(if $(filter off,$(BARRIER)),false,true) -report "$(REPORT)"

# make ends with 2 when something fails. Asked whether all is up to date (-q) it runs what begins with a plus, and ends with 1 if that does.
ifeq ($(BARRIER) $(MAKECMDGOALS),off crash)
MAKEFLAGS += -q
crash:
	+@env -u MAKEFLAGS $(MAKE) crash-built BARRIER= || exit 2
	+$(CRASH)
else
crash: crash-built ## transfers over three services, while sidecars and applications are killed at each point and at random; TX=n SEED=n; DRIVER=dtm: a DTM coordinates and is killed, too; BARRIER=off has to end with 1; REPORT=file
	$(CRASH)
endif

crash-built: build
	$(GO) build -tags failpoints -ldflags "-s -w" -o bin/outrigger-failpoints ./cmd/outrigger
	$(GO) build -o bin/crash ./integration/crash
	$(GO) build -o bin/crash-audit ./integration/crash/audit

h2spec: ## run h2spec's cases against the relay
	$(GO) build -modfile=tools/go.mod -o bin/h2spec github.com/summerwind/h2spec/cmd/h2spec
	OUTRIGGER_H2SPEC=$(CURDIR)/bin/h2spec $(GO) test -count=1 -tags h2spec -run TestH2Spec -v ./runtime/mesh/grpcproxy

bench: build ## measure against the limit and the peers at hand, daprd built first; writes bench.json; ONLY=name runs one part
	$(GO) run ./integration/bench -peers $(if $(ONLY),-only '$(ONLY)',)

bench-gate: build ## a short bench, daprd and MOSN built first, that fails when a target is missed by more than its double, or by less than that where its noise is less
	$(GO) run ./integration/bench -rounds 3 -length 1s -gate 2 -o /dev/null

fuzz: ## run each fuzz target for FUZZTIME (10s); ONLY=REGEXP: those whose folder and name fit it
	@all=$$(git grep -oE '^func Fuzz[A-Za-z0-9]*' -- '*_test.go' | sed 's,/[^/]*:func , ,' | grep -E '$(or $(ONLY),.)') || { echo "no fuzz target fits $(ONLY)"; exit 1; }; \
	echo "$$all" | while read -r p f; do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),10s) "./$$p" || exit 1; done

gen: ## make generated files anew
	$(TOOL) buf generate --template proto/buf.gen.yaml proto
	$(GO) run ./cmd/docgen
	$(GO) generate ./...

gen-check: gen ## fail if that changed anything; lint the protos
	$(TOOL) buf lint proto
	@git diff --exit-code -- proto docs/components examples integration
	@new=$$(git ls-files --others --exclude-standard -- proto docs/components); test -z "$$new" || { echo "not committed: $$new"; exit 1; }

lint: ## gofmt and vet, also of what has a build tag
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'))" || { gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags failpoints ./internal/failpoint
	GOOS=darwin $(GO) vet ./runtime/mesh/httpproxy ./runtime/access ./components/internal/folder # what has files for other systems
	GOOS=windows $(GO) vet ./runtime/mesh/httpproxy
	$(GO) vet -tags mutants,servers,h2spec $$(git grep -lE '^//go:build (mutants|servers|h2spec)' | xargs dirname | sort -u | sed 's,^,./,')

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.PHONY: all build run demo test race mutants integration integration-compose drivers soak schedules crash crash-built crash-fs h2spec bench bench-gate fuzz gen gen-check lint help
.DEFAULT_GOAL := all
