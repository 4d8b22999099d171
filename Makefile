# The two commands: `make demo` installs what the package itself needs, runs the main job on the
# built-in sandbox and shows its report; `make test` installs the rest and passes all tests. Both
# need Python 3.11 or later and make. `make docs` builds the documentation.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python compiles a module when it is first imported, and keeps the result: tests start hundreds of
# processes, each of which would compile pandas and all else again.
unexport PYTHONDONTWRITEBYTECODE

fuzz: MINUTES ?= 10
chaos: MINUTES ?= 15

# A lock file is complete and has hashes, so nothing is left to resolve. To compile all modules
# beforehand would take most of the time.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --no-compile

.PHONY: demo test lowest fuzz chaos docs setup check lint types contracts format lock clean

demo: $(VENV)/demo
	@$(BIN)/python -m cdp_backfill demo

# One process runs all tests of a file: they share what takes seconds to make. The order is kept, as
# the longest files would come last otherwise.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# A part of the tests with the lowest versions that the package allows. The page of awkward values
# shows numbers as numpy 2 writes them.
LOWEST := .venv-lowest
ROOMS := tests/messages tests/sources/test_csv_kinds.py tests/sources/test_json_kinds.py \
	tests/sources/test_sources.py tests/sources/test_unreadable.py tests/results/test_reports.py \
	tests/pipeline/test_send.py tests/pipeline/test_journal_files.py

lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n auto -W ignore $(ROOMS) --ignore tests/messages/test_awkward.py

$(LOWEST)/installed: requirements-lowest.txt
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --no-deps --no-compile --requirement $<
	@touch $@

# Random tables, mappings and files for some minutes of processor time: make fuzz MINUTES=30.
fuzz: setup
	$(BIN)/python -W ignore -m tests.fuzz $(MINUTES)

# Kills, interrupts and faults against a server whose record is the judge: make chaos MINUTES=2.
chaos: setup
	$(BIN)/python -m tests.chaos $(MINUTES)

docs: setup
	@$(BIN)/python -m docs.made
	@$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "The documentation is in build/docs: open build/docs/index.html in a browser."

setup: $(VENV)/installed

# What the package needs to run, and no more.
$(VENV)/demo: requirements.lock
	@echo "Setting up $(VENV) (once; about half a minute, 420 MB)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@touch $@

# The rest: what tests, checks and the documentation need, and the package itself.
$(VENV)/installed: $(VENV)/demo requirements-dev.lock pyproject.toml
	@echo "Adding what tests and documentation need (once; a few minutes, 2.0 GB in all)."
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(INSTALL) --no-build-isolation --editable .
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

# Needs uv; resolves for every platform and Python version at once. The versions that a user gets
# are those that the tests run with.
COMPILE := uv pip compile pyproject.toml --no-emit-index-url --quiet --custom-compile-command "make lock"
LOCK := $(COMPILE) --universal --python-version 3.11 --generate-hashes

lock:
	$(LOCK) --group dev --all-extras --output-file requirements-dev.lock
	$(LOCK) --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --group lowest --resolution lowest-direct --upgrade --python-version 3.11 --output-file requirements-lowest.txt

clean:
	rm -rf $(VENV) $(LOWEST) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
