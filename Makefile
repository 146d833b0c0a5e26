# Every target sets itself up: on a fresh machine with Python 3.11, pip and make, any of them works first.

# The first Python that runs and is new enough; another one: make install PYTHON=/path/to/python3
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
# What is installed: enough for the demo, or everything. Either target works first, on one .venv.
LIGHT := .venv/.installed-demo
INSTALLED := .venv/.installed

# Many images set it, and then every start would compile again what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-slow test-slurm test-operations check bench lock clean

help:
	@echo 'make demo       ingest some pictures, search them, show where everything lies'
	@echo 'make test       the tests'
	@echo 'make test-slow  the tests that take minutes'
	@echo 'make test-slurm the tests on a SLURM cluster, which it brings up (root on Debian 12)'
	@echo 'make test-operations  a schedule, a search and a killed driver on a real Prefect server and worker'
	@echo 'make check      ruff (lint, format, import directions) and mypy'
	@echo 'make bench      the benchmarks (QUICK=1: under a minute each)'
	@echo 'make install    .venv with everything (7 GB); its commands are in .venv/bin'
	@echo 'make lock       renew constraints.txt from what pyproject.toml allows'

install: $(INSTALLED)

# A virtual environment needs ensurepip, which Debian packs apart; then the Python's own pip installs one into it.
# For the demo Python compiles what it imports; pip would compile all, which takes longer than the demo.
# Warnings of the build say that the rooms lie beside imgrec/, which is meant.
define install
@test -n '$(PYTHON)' || { echo 'make: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
@rm -f $@
@test -x $(BIN)/pip || $(PYTHON) -m venv .venv 2>/dev/null || { \
	$(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
@echo 'installing into .venv, which takes $(2) the first time'
@$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25' # which takes half as long as that of Python 3.11
@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --disable-pip-version-check $(3) -c constraints.txt -e '.[$(1)]'
endef

$(LIGHT): pyproject.toml constraints.txt
	$(call install,demo,a minute,--no-compile)
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,dev,some minutes)
	@touch $(LIGHT) $@

demo: $(LIGHT)
	@$(BIN)/python -m benchmarks.demo

test: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m 'not slow and not slurm and not operations' -n auto --dist loadgroup --no-loadscope-reorder $(ARGS)

test-slow: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

test-slurm: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m slurm tests/cluster $(ARGS)

test-operations: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m operations tests/operations $(ARGS)

check: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(INSTALLED)
	@for name in ingest embed rescan watch registry memory index search filters queries thumbnails map; do \
		$(BIN)/python -m benchmarks.$$name $(if $(QUICK),--quick) || exit 1; done

lock:
	@rm -rf .lock && $(PYTHON) -m venv .lock && .lock/bin/pip install -q '.[dev]'
	@{ sed -n '/^#/p' constraints.txt; .lock/bin/pip freeze --exclude image-recommender; } > constraints.new
	@mv constraints.new constraints.txt && rm -rf .lock

clean:
	rm -rf .venv .demo .bench .mypy_cache .ruff_cache .pytest_cache build *.egg-info
