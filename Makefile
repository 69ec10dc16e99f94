# For users: `make demo`, `make test`, `make docs`; for releases: test-lowest, audit, release, sbom. Without make, see README.md.
PYTHON ?= python3
BIN := .venv/bin
# workers with a thread each: threads of several would wait for each other
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile
PIP := $(BIN)/python -m pip
INSTALL := install --quiet --disable-pip-version-check --constraint
RELEASE := bonemonai-$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# of the last commit: a release is of that, and is the same whenever and wherever it is made
EPOCH = $(shell git log -1 --format=%ct)
# whose packages the bill of materials lists, and where it is written
RUN_TIME := .venv-release/bin/python
SBOM := dist/$(RELEASE).cdx.json

.PHONY: demo test test-lowest lint docs audit release sbom clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/python -m bonemonai demo

test: .venv/.installed-dev lint
	$(PYTEST)

# what is old here warns of what is new beside it, in tests that tests run too
test-lowest: .venv-lowest/.installed
	PYTEST_ADDOPTS="-W ignore::DeprecationWarning" $(subst $(BIN),.venv-lowest/bin,$(PYTEST))

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

# --strict: what the data base does not know of is an error, not a pass
audit: .venv-audit/.installed
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

.venv-audit/.installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	touch $@

# setuptools puts the time and the user into an sdist, tar takes them out again (GNU's)
release: .venv/.installed-dev .venv-release/.installed
	@git diff --quiet HEAD || { echo "commit first: a release is of the last commit"; exit 1; }
	rm -rf build/release dist
	mkdir -p build/release dist
	umask 022 && git archive --prefix source/ HEAD | tar -x -C build/release
	cd build/release/source && umask 022 && SOURCE_DATE_EPOCH=$(EPOCH) \
	  $(CURDIR)/$(BIN)/python -m build --no-isolation --outdir .. . >../log
	cp build/release/$(RELEASE)-py3-none-any.whl dist
	tar -xzf build/release/$(RELEASE).tar.gz -C build/release
	tar --sort=name --mtime=@$(EPOCH) --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	  -C build/release -cf - $(RELEASE) | gzip -9n >dist/$(RELEASE).tar.gz
	rm -r build/release
	$(MAKE) sbom
	cd dist && sha256sum $(RELEASE)* >SHA256SUMS

sbom:
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --gather-license-texts \
	  --output-reproducible --spec-version 1.6 --output-file $(SBOM) $(RUN_TIME)

# what runs, and no more: no pip, none of the extras
.venv-release/.installed: pyproject.toml constraints.txt .venv/.installed-dev
	$(PYTHON) -m venv --clear --without-pip .venv-release
	$(PIP) --python $(RUN_TIME) $(INSTALL) constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) --python $(RUN_TIME) $(INSTALL) constraints.txt --editable .
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-audit .venv-release demo docs build dist
