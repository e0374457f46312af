# Everything a person types here. `make help` lists it. Needs Python 3.11 or newer, git and make; no root, no Docker.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Each has databases and ports of its own, so any number is safe. Many tests wait for processes: three for two cores.
# Unit tests wait for nothing: no more of them than there are cores, since each process first loads torch.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo test chaos rehearse containers check tools lint format types bench up reference lock audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^## /{ printf "\n%s\n", substr($$0, 4) } /^[a-z-]+:.*## /{ printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Use it

install: $(VENV)/.run ## Make .venv with ramq and what it needs to run, from the lock

demo: $(VENV)/.demo ## Archive and search real photographs; PHOTOS=DIR for your own, KEEP=1 to see the page
	@$(BIN)/python -m ramq.demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(KEEP),--keep) $(if $(PORT),--port $(PORT))

up: $(VENV)/.run ## Run the whole stack until Ctrl-C
	@$(BIN)/ramq up


## Change it

check: $(VENV)/.dev lint types ## Run linters, types and unit tests: before each commit
	$(BIN)/pytest -n logical --maxprocesses $(JOBS) --dist loadfile -m "not slow" tests/unit $(ARGS)

test: $(VENV)/.dev tools lint types ## Run linters, types and every test
	$(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

lint: $(VENV)/.dev ## Check style, format and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev ## Check the types
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(VENV)/.dev ## Run a cluster of containers under drawn faults, 3 x 10,000 images; needs what containers needs
	$(BIN)/python -m benchmarks.chaos_cluster $(ARGS)

rehearse: $(VENV)/.dev ## Back an installation up, ruin it, restore it in three ways and check it
	$(BIN)/python -m benchmarks.rehearse_restore $(ARGS)

containers: $(VENV)/.dev ## Build the images, run the composition and test it; needs root and Debian's podman
	RAMQ_CONTAINERS=1 $(BIN)/pytest -n 0 tests/containers $(ARGS)

tools: $(VENV)/.dev ## Fetch what the tests need beside packages: a browser, more photographs, helm
	@$(BIN)/python tests/photographs.py
	@$(BIN)/python tests/helm.py


## Maintain it

reference: $(VENV)/.dev ## Write docs/api.md and docs/cli.md from the code
	@$(BIN)/python docs/references.py

bench: $(VENV)/.dev ## Run the benchmarks; figures go to benchmarks/results
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(VENV)/.dev ## Write requirements/*.txt from pyproject.toml
	@sh requirements/lock.sh $(BIN)/uv

audit: $(VENV)/.dev ## Ask whether a locked package has a known vulnerability; needs a network
	@sh requirements/audit.sh $(CURDIR)/$(BIN)/pip-audit

clean: ## Remove what was built, downloaded or demonstrated here
	rm -rf $(VENV) demo-data dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# One recipe for each kind of installation: the locked packages, then ramq itself from this folder.
$(VENV)/.run $(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: requirements/%.txt pyproject.toml | $(BIN)/python
	@echo "Installing $$(grep -c '^[a-z]' $<) packages into $(VENV); the first time downloads up to 3 GB, most of it torch."
	@echo "Follow it with: tail -f $(VENV)/install.log"
	@$(PIP) --log $(VENV)/install.log install --quiet --require-hashes -r $<
	@$(PIP) --log $(VENV)/install.log install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ramq needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: install python3-venv, or another PYTHON=…"; exit 1; }
