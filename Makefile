# Every target calls only what a person could type. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   ?= demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-pyfeat check format readme bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mer-store needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "installing into $(VENV): about 1.5 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## real clips to a store with features of three modalities, and a page that shows it
	$(BIN)/mer-store demo $(DEMO)

test: $(READY)  ## run the tests on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile

test-pyfeat:  ## run the py-feat face recipe with random weights, in an environment of its own
	$(PYTHON) tests/pyfeat/run.py

check: $(READY)  ## ruff, mypy strict, import contracts, README help blocks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/refresh_help.py --check

format: $(READY)  ## format the code and sort its imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

readme: $(READY)  ## write the README's help blocks anew
	$(BIN)/python docs/refresh_help.py

bench: $(READY)  ## measure, as ratios against a baseline in the same run
	$(BIN)/python benchmarks/run_all.py

clean:  ## remove the demo and the environment
	rm -rf $(DEMO) $(VENV)
