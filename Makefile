# make demo | test | fast | check | docs | package: each from a bare clone with Python >= 3.11, make
# and a C library. `test` runs all tests, `check` what CI runs, `fast` in a minute those that train nothing.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu spares a Linux laptop gigabytes of CUDA.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: demo test fast check coverage format docs package clean

demo: .venv/installed
	$(BIN)/dcpt demo

test: .venv/installed
	$(BIN)/pytest -n 2

FAST := tests/decide tests/diagnosis tests/laws tests/report tests/runs tests/study tests/table \
	$(filter-out tests/test_fuzz.py,$(wildcard tests/test_*.py))
fast: .venv/installed
	$(BIN)/pytest -n 2 -m "not slow and not long" $(FAST)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) docs
	$(BIN)/pytest -n 2 -m "not slow"

coverage: .venv/installed
	$(BIN)/pytest -n 2 --cov=dcpt --cov-report=term:skip-covered

docs: .venv/installed
	$(BIN)/python docs/generate.py
	PYTHONPATH=docs $(BIN)/zensical build --strict --clean

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("dcpt needs Python >= 3.11; call make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@

package: .venv/installed
	$(BIN)/python -m build --no-isolation
	$(BIN)/pytest tests/test_packaging.py

clean:
	rm -rf .venv
