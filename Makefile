# From a fresh clone: make demo, make test. Needs Python >= 3.11 with pip and venv, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/base.stamp  ## train three networks on digits, audit them, write demo/report.html
	$(BIN)/stackelberg demo --out demo

test: .venv/dev.stamp  ## every test, one process a core; real data is read from STACKELBERG_DATA where it is set
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: .venv/dev.stamp  ## style, types, and imports that only go down
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: .venv/docs.stamp  ## the documentation site, warnings as errors: build/docs/index.html
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs

clean:  ## all that make has made
	rm -rf .venv demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist

.venv/base.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stackelberg needs Python 3.11 or newer, this is %s; pass make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev.stamp: .venv/base.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/docs.stamp: .venv/base.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@
