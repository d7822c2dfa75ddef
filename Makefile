# Everything runs in a virtual environment that is made on first use; nothing needs to be prepared.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install install-test train test test-all lint bench area mutants clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("gradgate needs Python 3.11 to 3.13; this is %d.%d. Try: make PYTHON=python3.12 ..." % sys.version_info[:2] if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)

# a stamp per set of dependencies, so that a second run starts at once
$(VENV)/installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/installed

install: $(VENV)/installed ## install gradgate into .venv

install-test: $(VENV)/installed-test

train: install ## train a CNN on handwritten digits, on the simulated hardware
	$(BIN)/gradgate train --device rtl --board ulx3s-85f --out runs/digits $(ARGS)

test: install-test ## all tests but the slow ones
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-all: install-test ## all tests
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: install-test ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet host

bench: install ## speed of the simulators
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/rtl_speed.py

area: install-test ## LUTs, multipliers, block RAM and clock of every block: docs/area.md (an hour)
	$(BIN)/python benchmarks/area.py --jobs $(JOBS) $(ARGS)

mutants: install-test ## break the gateware on purpose; every mutant must be caught
	$(BIN)/python -m tests.mutants $(ARGS)

clean: ## remove what was built, the environment included
	rm -rf $(VENV) build runs *.egg-info .pytest_cache .ruff_cache
