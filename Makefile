# Everything a person or a machine does with the project. Needs Python >= 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
SHELL := /bin/bash
# Compiling every module of every library takes longer than the few that are imported then do.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-deps --no-compile
# Tests write many small files and wait for each to be on disk. Memory is quicker, where it has room.
ROOM := $(shell df --output=avail -k /dev/shm 2>/dev/null | tail -1)
SCRATCH := $(if $(shell test 0$(strip $(ROOM)) -ge 4000000 && echo yes),/dev/shm,$(or $(TMPDIR),/tmp))
# Removed whatever comes of the tests; who looks for what a test left behind runs pytest itself.
IN_SCRATCH = scratch=$$(mktemp -d -p $(SCRATCH)) && trap 'rm -rf "$$scratch"' EXIT &&
PYTEST = -m pytest -n $(WORKERS) --dist worksteal --basetemp="$$scratch/tests" \
	-o tmp_path_retention_policy=failed

.PHONY: demo test test-long lint types walls check test-duckdb2 bench models ui lock docs clean

demo: $(VENV)/.installed  ## sample data, the daily run, and a table of what was published
	$(BIN)/engagement demo

ui: $(VENV)/.installed  ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/engagement ui

test: $(VENV)/.installed-dev  ## all tests
	$(IN_SCRATCH) $(BIN)/python $(PYTEST)

test-long: $(VENV)/.installed-dev  ## all tests, with five times the kills and four times the examples
	$(IN_SCRATCH) KILLS=30 EXAMPLES=200 $(BIN)/python $(PYTEST)

check: lint types walls test  ## what must pass before a change lands

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

walls: $(VENV)/.installed-dev
	$(BIN)/lint-imports

test-duckdb2: $(VENV)/.installed-dev  ## the tests that touch DuckDB, on its next major version
	$(PYTHON) -m venv --clear $(VENV)/duckdb2
	echo "$(CURDIR)/$$(echo $(VENV)/lib/python3*/site-packages)" > $$(echo $(VENV)/duckdb2/lib/python3*/site-packages)/project.pth
	$(VENV)/duckdb2/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-duckdb2.lock
	$(IN_SCRATCH) $(VENV)/duckdb2/bin/python $(PYTEST) tests/contracts/test_schema.py \
		tests/unit/warehouse tests/integration/test_loading.py tests/integration/test_marts.py \
		tests/integration/test_publication.py -m 'not slow'

bench: $(VENV)/.installed-dev  ## all benchmarks; writes docs/performance.md
	$(BIN)/python -m benchmarks

models: $(VENV)/.installed-dev  ## what models are worth; writes figures and pictures of docs/models.md
	$(BIN)/python -m benchmarks.models all

docs: $(VENV)/.installed-dev  ## what is generated from the contracts: schema files and data dictionary
	$(BIN)/python -m engagement_pipeline.warehouse.schema_yaml dbt_like_sql
	$(BIN)/python -m engagement_pipeline.terminal.dictionary docs/data-dictionary.md

lock: $(VENV)/.installed-dev  ## pin anew what pyproject.toml asks for
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra build $(LOCK_OPTIONS) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras -c requirements.lock $(LOCK_OPTIONS) -o requirements-dev.lock
	echo "duckdb==2.0.0" | $(BIN)/uv pip compile - --no-config $(LOCK_OPTIONS) -o requirements-duckdb2.lock
LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements.lock
	$(BIN)/python -m pip install $(PIP_OPTIONS) --no-build-isolation -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
