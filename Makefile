# One verb per task; `make help` lists them. Everything lives in .venv; `make clean` removes it.
PYTHON      ?= python3
TORCH_INDEX ?=
VENV        := .venv
BIN         := $(VENV)/bin
READY       := $(VENV)/.ready
PYTEST      := $(BIN)/pytest
MIN         := .venv-torch-min
WORKER_PYTHON ?= python3.9
SOURCES     := k8sddp tests manifests/samples

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint lint-workflows unit property golden-update local contract test-gpu cluster cluster-down e2e
.PHONY: bench bench-hang bench-restart bench-overhead bench-telling bench-apply test-torch-min test-worker wheel wheel-test clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON) (3.10 or newer), TORCH_INDEX=<URL of a CPU-only torch index> (default: your own index)"

# torch that is already there for $(PYTHON) is used as it is; else it comes as the extra `torch`. Compiled at once, because
# the pods of the test bed cannot write bytecode: importing torch took them 4.6 s instead of 2.2.
$(READY): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is missing or older than 3.10; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $$($(PYTHON) -c 'import torch' 2>/dev/null && echo --system-site-packages) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -c 'import torch' 2>/dev/null || VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode \
	  $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch>=2.4' 'numpy>=1.26'
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --editable '.[dev]'
	@touch $@

$(MIN)/.ready: $(READY)
	$(BIN)/uv venv --quiet --clear --python '>=3.10,<3.13' $(MIN)
	VIRTUAL_ENV=$(MIN) $(BIN)/uv pip install --quiet --compile-bytecode $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch==2.4.*' 'numpy>=1.26,<2'
	VIRTUAL_ENV=$(MIN) $(BIN)/uv pip install --quiet --editable '.[dev]'
	@touch $@

venv: $(READY) ## Make .venv with k8sddp, torch and the development tools

demo: $(READY) ## Train the digits sample here: two "nodes", gloo, no cluster
	$(BIN)/k8sddp run --local manifests/samples/digits/job.yaml

test: lint $(READY) ## Lint, types, unit, golden, contract and local tests
	$(PYTEST) tests -m "not gpu and not cluster and not bench"

lint: $(READY) ## ruff, mypy strict
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

unit: $(READY) ## The fast tests only: no network, no cluster, no torch
	$(PYTEST) tests/unit tests/golden tests/test_architecture.py

property: $(READY) ## The property tests at random and twenty times as wide (nightly); a find prints the line that repeats it
	$(PYTEST) tests/unit -m hypothesis --hypothesis-profile=wide --timeout=3600

golden-update: $(READY) ## Write the golden files and k8sddp/spec/core_v1.py anew; read the diff
	$(BIN)/python -m tests.golden.regenerate

contract: $(READY) ## The cluster contract against the fake API server
	$(PYTEST) tests/contract -m "not cluster"

local: $(READY) ## The tests that train here, with torch and gloo
	$(PYTEST) tests/local

test-torch-min: $(MIN)/.ready ## The local tests with the oldest torch that is supported (needs Python 3.10 to 3.12)
	$(MIN)/bin/python -m pytest tests/local

test-worker: $(READY) ## The worker processes' tests with another Python: make test-worker WORKER_PYTHON=python3.9
	WORKER_PYTHON=$(WORKER_PYTHON) $(PYTEST) tests/unit/worker

test-gpu: $(READY) ## The tests that need an NVIDIA GPU; they skip with a sentence without one
	$(PYTEST) tests/gpu -m gpu -s

bench: $(READY) ## Start-up, rendering and launch figures, as ratios of one run
	$(BIN)/python -m tests.bench startup launching

bench-restart: $(READY) ## Kill a rank again and again, here and on the test bed: beside torchrun, JobSet, raw Jobs (35 minutes)
	$(BIN)/python -m tests.bench restarting restarting-cluster

bench-overhead: $(READY) ## What we cost an undisturbed run: worker memory, steps per second, hooks (6 minutes)
	$(BIN)/python -m tests.bench overhead

bench-telling: $(READY) ## What node 0 pays for knowing how far the ranks of 2 to 4,096 nodes are (4 minutes)
	$(BIN)/python -m tests.bench telling

bench-hang: $(READY) ## What notices a hang, and whom it names: beside torchrun, and ft_launcher if K8SDDP_BENCH_FT_LAUNCHER names it (90 minutes)
	$(BIN)/python -m tests.bench hanging

bench-apply: $(READY) ## From apply to the first step on a cluster, in phases, beside kubectl (starts a cluster if none runs)
	$(BIN)/python -m tests.bench applying

cluster: $(READY) ## Start a real two-node Kubernetes for tests and print how to use it
	$(BIN)/python -m tests.cluster up

cluster-down: $(READY) ## End it and leave nothing behind
	$(BIN)/python -m tests.cluster down

e2e: $(READY) ## The real cluster under the tests (kind with Docker; else built from Go modules, as root)
	$(BIN)/python -m tests.cluster exec -- $(BIN)/python -m pytest tests/cluster tests/contract tests/e2e -m cluster

lint-workflows: ## actionlint over .github/workflows (needs Go)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.7

wheel: $(READY) ## Build the wheel into dist/
	rm -rf dist
	VIRTUAL_ENV=$(VENV) $(BIN)/uv build --quiet --wheel

wheel-test: wheel ## Install the built wheel alone into a new environment and render a sample with it
	rm -rf dist/venv && $(PYTHON) -m venv dist/venv
	VIRTUAL_ENV=dist/venv $(BIN)/uv pip install --quiet dist/*.whl
	cd dist && venv/bin/k8sddp version --client && venv/bin/k8sddp --help > /dev/null
	cd dist && venv/bin/k8sddp render ../manifests/samples/digits/job.yaml | grep -c '^kind:' | grep -qx 5
	cd dist && venv/bin/python -c 'import importlib.resources as r; assert (r.files("k8sddp") / "py.typed").is_file()'
	cd dist && venv/bin/python -c 'import k8sddp_report; k8sddp_report.report(step=1, total_steps=2, loss=0.5)'
	@echo "the wheel works on its own"

clean: ## Remove .venv and what the tools left in the tree
	rm -rf $(VENV) $(MIN) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
