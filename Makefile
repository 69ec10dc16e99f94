# Three commands: `make demo`, `make test` and `make docs`. Without make, see README.md.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip
INSTALL := install --quiet --disable-pip-version-check --constraint

.PHONY: demo test test-lowest lint docs clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/python -m bonemonai demo

test: .venv/.installed-dev lint
	$(BIN)/python -m pytest -q -m "not slow"

# what is old here warns of what is new beside it, in tests that tests run too
test-lowest: .venv-lowest/.installed
	PYTEST_ADDOPTS="-W ignore::DeprecationWarning" .venv-lowest/bin/python -m pytest -q -m "not slow"

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
	$(PIP) $(INSTALL) constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) $(INSTALL) constraints.txt --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) $(INSTALL) constraints.txt --editable '.[dev]'
	touch $@

.venv-lowest/.installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip $(INSTALL) constraints-lowest.txt "$$(grep '^torch==' constraints-lowest.txt)"
	.venv-lowest/bin/python -m pip $(INSTALL) constraints-lowest.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-lowest demo docs
