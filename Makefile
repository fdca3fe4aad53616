# Every target calls only what a person could type. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO   ?= demo
PLANTED ?= planted

# Trainers read the demo's store, or the one that mer-store.toml names, or: make train-fusion STORE=… CLIPS=…
ifneq ($(STORE),)
DATA := --store $(STORE) $(if $(CLIPS),--clips $(CLIPS))
INTO := $(if $(RUNS),--runs $(RUNS))
PLANTED_DATA := $(DATA)
PLANTED_INTO := $(INTO)
else ifeq ($(wildcard mer-store.toml),)
DATA := --store $(DEMO)/store --clips $(DEMO)/clips/clips.csv
INTO := --runs $(DEMO)/runs
CORPUS := $(DEMO)/index.html
PLANTED_DATA := --store $(PLANTED)/store --clips $(PLANTED)/clips.csv
PLANTED_INTO := --runs $(PLANTED)/runs
PLANTED_CORPUS := $(PLANTED)/clips.csv
PLANTED_ADAPTED := $(PLANTED)/adapted
# 600 clips of width 32: fewer and larger steps than the paper's for 5,030 of width 1,024
QUICK := lr=3e-3 layer_lr=1e-2 epochs=12 predict=labelled
QUICK_ALIGN := hidden=128 batch=256 lr=1e-3 epochs=10
endif
MER := $(BIN)/mer-store

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults test-pyfeat check format readme bench clean \
        train-probe train-adapter train-align train-fusion table2 layer-sweep

help:  ## list the targets
	@grep -hE '^[a-z2 -]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mer-store needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "installing into $(VENV): about 1.5 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## real clips to a store with features of three modalities, and a page that shows it
	$(BIN)/mer-store demo $(DEMO)

$(DEMO)/index.html: | $(READY)
	$(MER) demo $(DEMO)

$(PLANTED)/clips.csv: | $(READY)
	$(MER) demo --planted $(PLANTED)

$(PLANTED)/adapted: | $(PLANTED_CORPUS)
	run=$$($(MER) train adapter --config hlft16-21 $(addprefix --set ,$(QUICK)) $(PLANTED_DATA) $(PLANTED_INTO)) && \
	{ $(MER) extract --modality audio --adapter $$run $(PLANTED_DATA) || test $$? -eq 1; } && echo $$run > $@

train-probe train-adapter: train-%: $(READY) $(CORPUS)  ## train from the caches
	$(MER) train $* $(SET) $(DATA) $(INTO)

train-align: $(READY) $(PLANTED_CORPUS) $(PLANTED_ADAPTED)  ## align visual features with adapted audio
	$(MER) train align $(addprefix --set ,$(QUICK_ALIGN)) $(SET) $(PLANTED_DATA) $(PLANTED_INTO)

train-fusion: $(READY) $(CORPUS)  ## from the caches to predictions, a submission and a report
	run=$$($(MER) train fusion $(SET) $(DATA) $(INTO)) && echo $$run && \
	$(MER) predict $$run --submission $$run/submission.csv $(DATA) && $(MER) report $(DATA) $(INTO)

layer-sweep: $(READY) $(PLANTED_CORPUS)  ## weighted F1 layer by layer: the paper's Figure 2
	$(MER) train probe --config layer-sweep $(SET) $(PLANTED_DATA) $(PLANTED_INTO)

table2: $(READY) $(PLANTED_CORPUS) $(PLANTED_ADAPTED)  ## the paper's Table 2: trains what is missing
	$(MER) table2 $(addprefix --set adapter.,$(QUICK)) $(addprefix --set align.,$(QUICK_ALIGN)) $(SET) $(PLANTED_DATA) $(PLANTED_INTO)

test: $(READY)  ## run the tests on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile

test-faults: $(READY)  ## disturb every command at every call, flip every byte: an hour, and a table of counts
	MER_STORE_LONG_FAULTS=1 $(BIN)/python -m pytest -n auto --dist load tests/faults

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
	rm -rf $(DEMO) $(PLANTED) $(VENV)
