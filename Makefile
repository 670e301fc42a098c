# Every target does its own set-up; a target that is set up already starts at once. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-proxy bench-relay bench-idle bench-operator images e2e e2e-all e2e-cluster e2e-cluster-down fresh clean

help:           ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):[^#]*## */  make \1\t/' | expand -t 26

demo:           ## bring a cluster up, kill, scale and roll it under calls, and judge the calls
	@scripts/demo.sh

test:           ## lint, then unit, property, simulation and integration tests, with coverage
	@scripts/test.sh

lint:           ## ruff, mypy --strict, import contracts, generated files
	@scripts/lint.sh

bench: bench-proxy bench-relay bench-idle ## all benchmarks

bench-proxy:    ## CPU per call beside Kamailio
	@scripts/bench.sh proxy

bench-relay:    ## CPU per packet beside rtpengine
	@scripts/bench.sh relay

bench-idle:     ## memory and CPU of the README's cluster with nothing to do
	@scripts/bench.sh idle

bench-operator: ## reaction, CPU and memory of the operator with 1,000 pods on a real API server (builds one at first)
	@scripts/bench.sh operator

images:         ## container images as archives in dist/images (buildah on a base of debootstrap, as root)
	@scripts/images.sh

e2e:            ## one end-to-end case of each kind on a Kubernetes of its own (root), 30 minutes
	@scripts/e2e.sh smoke

e2e-all:        ## every end-to-end case, 100 minutes
	@scripts/e2e.sh all

e2e-cluster:    ## bring up a Kubernetes of three nodes on this machine (root), and say how to use it
	@scripts/e2e-cluster.sh up

e2e-cluster-down: ## take it down without a trace
	@scripts/e2e-cluster.sh down

fresh:          ## the README's commands in an empty Debian 12 root (debootstrap, as root)
	@scripts/fresh.sh

clean:          ## remove what the targets made in this directory
	rm -rf .venv build dist .coverage* .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
