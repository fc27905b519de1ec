# `make demo` tells the story, `make test` checks it. Both make their own .venv with what is locked in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt
# Tests mostly wait: for disks, servers and other processes.
WORKERS ?= 3
# Who makes the benchmarks' shards, and the peers; and where the shards go.
BENCH ?= ../shared/bench
WORKLOAD ?= build/workload

.PHONY: demo test lint soak fuzz bench guard bytecode lock clean

demo: $(VENV)/.installed bytecode
	$(BIN)/consent demo

test: $(VENV)/.installed-dev tests/browser/node_modules lint bytecode
	$(BIN)/python -m pytest -m "not soak" --numprocesses $(WORKERS) --max-worker-restart 0 --no-loadscope-reorder --cov

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check ledger cli schemas tests
	$(BIN)/mypy

soak: $(VENV)/.installed-dev bytecode
	$(BIN)/python -m pytest -m soak

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz --seconds 90

bench: $(VENV)/.installed-dev bytecode
	BENCH=$(BENCH) WORKLOAD=$(WORKLOAD) $(BIN)/python -m tests.benchmarks

guard: $(VENV)/.installed-dev bytecode
	BENCH=$(BENCH) $(BIN)/python -m tests.benchmarks.guard

# As pip does for what it copies. Where PYTHONDONTWRITEBYTECODE is set, each start would compile all of it again.
bytecode: $(VENV)/.installed
	$(BIN)/python -m compileall -q ledger cli schemas

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed constraints-dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement constraints-dev.txt
	touch $@

# What looks for barriers in the pages. Without npm those tests are skipped, and say so.
tests/browser/node_modules: tests/browser/package-lock.json
	! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund --prefix tests/browser

lock:
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --no-annotate --extra build --extra web --output-file constraints.txt pyproject.toml
	$(BIN)/pip-compile --quiet --no-strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --no-annotate --extra build --extra web --extra dev --extra fast --extra postgres --extra spark --extra ray --extra datatrove --extra datasets --output-file constraints-dev.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info tests/browser/node_modules
