# Three commands: `make demo`, `make test` and `make docs`. Without make, see README.md.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/python -m bonemonai demo

test: .venv/.installed-dev lint
	$(BIN)/python -m pytest -q -m "not slow"

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --config setup.cfg

docs: .venv/.installed
	$(BIN)/python -m bonemonai bundle docs -o docs

# torch first and by its exact version: an index that holds a build of it for this machine is then asked before others
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo docs
