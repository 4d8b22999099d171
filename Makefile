# The two commands: `make demo` runs the main job on the built-in sandbox and shows its report,
# `make test` sets everything up and passes all tests. Both need Python 3.11 or later and make.
# `make docs` builds the documentation.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

MINUTES ?= 10

.PHONY: demo test fuzz docs setup check lint types contracts format lock clean

demo: setup
	@$(BIN)/cdp-backfill demo

test: setup
	$(BIN)/python -m pytest -n auto

# Random tables, mappings and files for some minutes of processor time: make fuzz MINUTES=30.
fuzz: setup
	$(BIN)/python -W ignore -m tests.fuzz $(MINUTES)

docs: setup
	@$(BIN)/python -m docs.made
	@$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "The documentation is in build/docs: open build/docs/index.html in a browser."

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "Setting up $(VENV) from the lock file (once; about a minute)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: lint types contracts

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The direction of imports, as pyproject.toml declares it.
contracts: setup
	@$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs uv; resolves for every platform and Python version at once.
lock:
	uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
