# dcs needs Go, git and make. `make race` wants gcc too, `make bench` nginx, strace and root (for an ext4 in a file);
# `make e2e` and `make model` install what they need (see e2e/install.sh).

# One static binary, and tests that need no C compiler. Only the race detector wants cgo.
export CGO_ENABLED := 0

BIN := bin/dcs

# Where make run listens.
PORT := 5000

# Tools live outside the tree, one folder for each version, so that a new pin never meets an old binary.
TOOLS         := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dcs-tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-v2.15.0/golangci-lint
REGISTRY      := $(TOOLS)/registry-v3.1.2/registry
OLAREG        := $(TOOLS)/olareg-v0.1.2/olareg
CONFORMANCE   := $(TOOLS)/conformance-v0.0.0-20260831232431-97274622c111/conformance

# The clients that make e2e runs against dcs, as Go builds them; those of Debian are in e2e/install.sh.
CRANE    := $(TOOLS)/crane-v0.22.1/crane
REGCTL   := $(TOOLS)/regctl-v0.11.7/regctl
ORAS     := $(TOOLS)/oras-v1.3.6/oras
HELM     := $(TOOLS)/helm-v3.22.0/helm
COSIGN   := $(TOOLS)/cosign-v2.6.5/cosign
BUILDKIT := $(TOOLS)/buildkit-v0.34.2/buildctl
BUILDX   := $(TOOLS)/buildx-v0.38.2/buildx
CLIENTS  := $(CRANE) $(REGCTL) $(ORAS) $(HELM) $(COSIGN) $(BUILDKIT) $(BUILDX)

# What make bench measures: rows (a regular expression of whole names; `bin/bench -list` has them), rounds, the largest
# store (small, 100k, 1m), time of a server in a round, bytes of the pushed layer and of the large blob that is pulled;
# where stores are made, where the samples go. AGAINST is another dcs, such as that of the last release: every row
# measures both by turns, and says what the new one costs in CPU, as a ratio. Then the stores of a million blobs are as
# large as the largest one on disk.
ROWS    ?=
AGAINST ?=
ROUNDS  ?= 5
SCALE   ?= 100k
FOR     ?= 1s
LAYER   ?= 1073741824
BLOB    ?= 268435456
DIR     ?=
JSON    ?= bin/bench.json
DOC     ?=
NGINX   ?= $(or $(shell PATH=$$PATH:/usr/sbin:/sbin command -v nginx),nginx)

# How long make torture tries to break something, and where its randomness begins; 0: from the clock.
T    ?= 60s
SEED ?= 0

.PHONY: build run test race torture losses fuzz breakages model conformance lint docs e2e clients bench figures clean \
	help

build: ## build the static binary bin/dcs (what plain `make` does)
	go build -trimpath -o $(BIN) ./cmd/dcs

run: build ## start dcs on localhost:5000 (PORT=N: another port, metrics on the next), data in ./data, no login
	@mkdir -p data
	@$(BIN) serve --server.address localhost --server.port $(PORT) --debug.address localhost:$$(($(PORT) + 1)) \
		--storage.directory data --auth.enabled=false

test: ## run the tests; needs nothing but Go
	go test ./...

race: export CGO_ENABLED := 1
race: ## run the tests under the race detector; needs gcc
	# SQLite, which is C translated to Go, runs twice as fast without checks of its pointer arithmetic.
	go test -race -timeout 20m -gcflags='modernc.org/...=-d=checkptr=0' ./...

torture: SHELL := /bin/bash
torture: .SHELLFLAGS := -o pipefail -c
torture: ## try to break every promise at random for T=60s; SEED=n begins where an earlier run began
	go test -count=1 -timeout 0 -v \
		-run '^(TestStorm|TestStormOfKills|TestStormFromOutside|TestAKillAtEveryStep|TestModel)$$' \
		./torture ./internal/serve -args -duration=$(T) -seed=$(SEED) \
		| grep -v -e '^=== ' -e '^ *--- PASS: TestModel/'

# How often make losses takes the power away on each file system.
LOSSES ?= 500

losses: build $(REGISTRY) ## lose the power LOSSES=500 times on ext4, xfs and btrfs; needs root, uses apt
	e2e/install.sh
	DCS_BIN=$(CURDIR)/$(BIN) STOCK_REGISTRY_BIN=$(REGISTRY) POWER_LOSSES=$(LOSSES) \
		go test -tags e2e -count=1 -timeout 0 -v -run '^TestPowerLossOfADisk$$' ./e2e

fuzz: ## feed the parsers noise, each for T=60s: paths, manifests, configuration, globs, users
	@go list ./... | while read -r package; do \
		go test -list '^Fuzz' $$package | grep '^Fuzz' | while read -r target; do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(T) $$package || exit 1; \
		done || exit 1; \
	done

breakages: $(REGISTRY) ## break each law on purpose (torture/breakages), and want a test to fail; needs root
	e2e/install.sh
	STOCK_REGISTRY_BIN=$(REGISTRY) torture/breakages.sh

# Requests of each client of a model: 1, or 2, which takes a quarter of an hour and 10 GB.
OPS ?= 1

model: ## check the models of the laws (docs/model), and that each fails without a law; OPS=2: larger ones
	OPS=$(OPS) docs/model/check.sh

conformance: build $(CONFORMANCE) ## run the OCI distribution-spec's own suite, versions 1.0 and 1.1
	DCS_BIN=$(CURDIR)/$(BIN) CONFORMANCE_BIN=$(CONFORMANCE) go test -tags conformance -count=1 -v ./conformance

lint: $(GOLANGCI_LINT) ## check formatting, go vet, staticcheck and who may import what (.golangci.yml)
	$(GOLANGCI_LINT) run ./...

docs: ## write docs/cli.md, docs/man and docs/config.schema.json from the program's own help and keys
	go test ./cmd/dcs -run TestDocsAreCurrent -count=1 -update
	go test ./pkg/config -run TestTheSchemaIsCurrent -count=1 -update

e2e: build $(REGISTRY) clients ## run dcs under real clients, nginx, stock registry; needs root, uses apt
	e2e/install.sh
	# More at once than there are cores: most of a client's scenario is waiting until something expires.
	DCS_BIN=$(CURDIR)/$(BIN) STOCK_REGISTRY_BIN=$(REGISTRY) \
		PATH="$(subst $() ,:,$(patsubst %/,%,$(dir $(CLIENTS)))):$$PATH" \
		go test -tags e2e -count=1 -timeout 20m -parallel 8 -v ./e2e

bench: build $(REGISTRY) $(OLAREG) ## measure dcs beside other servers: ROWS=regexp, SCALE=small, AGAINST=PROGRAM, DOC=1
	go build -trimpath -o bin/bench ./bench
	# mkfs.ext4 and losetup are in /usr/sbin.
	PATH=$$PATH:/usr/sbin:/sbin bin/bench -rounds $(ROUNDS) -rows '$(ROWS)' -scale $(SCALE) -for $(FOR) \
		-layer $(LAYER) -blob $(BLOB) -dcs $(BIN) -against '$(AGAINST)' -registry $(REGISTRY) -olareg $(OLAREG) \
		-nginx $(NGINX) -dir '$(DIR)' -json '$(JSON)' $(if $(DOC),-doc docs)

figures: ## say how large the code is: lines by room, functions, comments, modules, the program
	go run ./bench figures .

clean: ## remove what was built; ./data stays
	rm -rf bin coverage.* *.test *.prof
	@if [ -d data ]; then echo 'data/ stays: it holds the images of `make run`; remove it by hand'; fi

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

$(GOLANGCI_LINT):
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The stock registry that must be able to serve a directory of dcs; the version of go.mod.
$(REGISTRY):
	GOBIN=$(@D) go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2

# The registry that syncs nothing, which pushes are measured beside. go install would want the list of its versions,
# too, which a proxy of modules need not have.
$(OLAREG):
	e2e/install_module.sh github.com/olareg/olareg@v0.1.2 $(@D) ./cmd/olareg

# The suite of the OCI distribution specification, which has no releases of its own.
$(CONFORMANCE):
	GOBIN=$(@D) go install github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111

# The clients of make e2e. From nothing all of them take a quarter of an hour, and then never again.
clients: $(CLIENTS) ## build the Go clients that make e2e runs against dcs (15 minutes, once)

$(CRANE):
	GOBIN=$(@D) go install github.com/google/go-containerregistry/cmd/crane@v0.22.1
$(REGCTL):
	GOBIN=$(@D) go install github.com/regclient/regclient/cmd/regctl@v0.11.7
$(ORAS):
	GOBIN=$(@D) go install oras.land/oras/cmd/oras@v1.3.6
$(HELM):
	GOBIN=$(@D) go install helm.sh/helm/v3/cmd/helm@v3.22.0
$(COSIGN):
	GOBIN=$(@D) go install github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5
$(BUILDKIT):
	e2e/install_module.sh github.com/moby/buildkit@v0.34.2 $(@D) ./cmd/buildctl ./cmd/buildkitd
$(BUILDX):
	e2e/install_module.sh github.com/docker/buildx@v0.38.2 $(@D) ./cmd/buildx
