# make demo | test | package-test | docs | bench | performance | clean        PYTHON=python3.12 picks another interpreter
PYTHON ?= python3
DEMO ?= demo
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export NO_MKDOCS_2_WARNING := 1
.PHONY: help demo test package-test docs bench performance clean remove-demo warm

help:
	@echo "make demo    install into .venv, then run every system's example into ./$(DEMO)"
	@echo "make test    install with the test extras, then lint, types, tests, documentation"
	@echo "make docs    write the pages made from the code, build the documentation into ./site"
	@echo "make bench   run the benchmarks"
	@echo "make package-test   build sdist and wheel, install them elsewhere, use them there (network, minutes)"
	@echo "make performance    run the benchmarks, put their tables into docs/performance.md"
	@echo "make clean   remove .venv, caches, and what demo and docs wrote"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON): not found; exactgrad needs Python >= 3.11 (make PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "make: $$($(PYTHON) --version): too old; exactgrad needs Python >= 3.11 (make PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp is newer than what it was made from, so that nothing is installed twice.
.venv/installed: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

.venv/installed-test: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch .venv/installed $@

demo: .venv/installed remove-demo
	$(BIN)/exactgrad demo --out '$(DEMO)'

# Only a folder that `exactgrad demo` marked as its own is replaced.
remove-demo:
	@if [ -f '$(DEMO)/.exactgrad-demo' ] && [ ! -L '$(DEMO)' ]; then rm -rf -- '$(DEMO)'; \
	elif [ -e '$(DEMO)' ]; then echo "make: ./$(DEMO) was not made by exactgrad demo; move it or say make demo DEMO=..." >&2; exit 1; fi

test: .venv/installed-test warm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/python -m mkdocs build --strict --quiet

package-test: .venv/installed-test
	$(BIN)/pytest -m package tests/packaging

# The kernels are compiled once here, not once in each of pytest's processes.
warm: .venv/installed-test
	$(BIN)/python tests/warm.py

docs: .venv/installed-test
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/traces/generate.py
	$(BIN)/python -m mkdocs build --strict

bench: .venv/installed-test
	@for file in benchmarks/*.py; do [ -e "$$file" ] || { echo "no benchmarks yet"; break; }; \
	    echo "== $$file"; $(BIN)/python "$$file"; done

performance: .venv/installed-test
	$(BIN)/python docs/measure.py

clean:
	rm -rf -- .venv site build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf -- {} +
	@if [ -f '$(DEMO)/.exactgrad-demo' ] && [ ! -L '$(DEMO)' ]; then rm -rf -- '$(DEMO)'; fi
