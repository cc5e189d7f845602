# One line a task; every task does its own set-up. Python >= 3.11 and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ONLY ?=
ANOTHER = echo "Install one and run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2

.PHONY: help setup format lint types imports test test-cluster test-rotation test-csi test-node check demo demo-cluster \
  demo-edge cluster cluster-down bench docs build clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup          virtual environment with the package and all development tools
setup: $(STAMP)

$(STAMP): pyproject.toml
	@"$(PYTHON)" -c '' 2>/dev/null || { \
	  echo "KubeTLS needs Python 3.11 or newer; '$(PYTHON)' cannot be run." >&2; \
	  $(ANOTHER); exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "KubeTLS needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	  $(ANOTHER); exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@echo "Setting up $(VENV) (about a minute the first time) ..."
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group dev --editable .
	@touch $@

## make demo           the main job: applications authenticate each other while everything rotates
demo: setup
	@$(BIN)/python -m examples.demo

## make test           all tests
test: setup
	@$(BIN)/pytest -n auto --dist loadfile $(ARGS)

## make cluster        a development cluster: a real API server and two nodes without containers
cluster: setup
	@$(BIN)/python -m cluster up

## make cluster-down   end it
cluster-down: setup
	@$(BIN)/python -m cluster down

## make test-cluster   the control plane's tests, on a cluster of their own
test-cluster: setup
	@$(BIN)/python -m cluster build
	@$(BIN)/pytest tests/cluster --ignore=tests/cluster/test_unforced_rotation.py $(ARGS)

## make test-csi       the tests that every CSI driver is held to, against the node driver
test-csi: setup
	@$(BIN)/python -m cluster build --csi
	@$(BIN)/pytest tests/csi $(ARGS)

## make test-rotation  a root rotation on a cluster with nothing shortened: 20 to 30 minutes
test-rotation: setup
	@$(BIN)/python -m cluster build
	@$(BIN)/pytest tests/cluster/test_unforced_rotation.py $(ARGS)

## make demo-cluster   the control plane's main job, on a real API server
demo-cluster: setup
	@$(BIN)/python -m examples.demo_cluster

## make demo-edge      browser, external API, internal API and partners (SERVE=1: open it in a browser)
demo-edge: setup
	@$(BIN)/python -m examples.edge $(if $(SERVE),--serve) $(if $(filter command,$(origin PORT)),--port $(PORT))

## make test-node      the same walk in real pods: kubelet, containerd and runc; root and Linux only
test-node: setup
	@$(BIN)/python -m cluster build --node
	@$(BIN)/pytest tests/node $(ARGS)

## make check          everything that CI runs
check: lint types imports test

format: setup
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

## make bench          measures, side by side with what one would use instead (ONLY=name runs one)
bench: setup
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group bench
	@$(BIN)/python -m benchmarks $(ONLY)

## make docs           the documentation site in build/site
docs: setup
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site
	@echo "build/site/index.html"

## make build          wheel and source distribution in dist/
build: setup
	@$(BIN)/uv build --quiet --python $(BIN)/python --out-dir dist
	@ls dist/kubetls_sdk-*

clean:
	rm -rf $(VENV) build dist
