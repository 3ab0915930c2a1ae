# Two commands: `make` serves, `make test` tests. Both set up what they need in .venv the first time.
.DEFAULT_GOAL := serve
.PHONY: serve test check format docs clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

serve: $(VENV)/.runs
	@$(BIN)/broker serve --origin http://localhost:3000 --data ./tmp

test: $(VENV)/.tests
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine -q && $(BIN)/coverage report

check: $(VENV)/.tests
	$(BIN)/ruff check src tests docs
	$(BIN)/ruff format --check src tests docs
	$(BIN)/mypy src tests docs

format: $(VENV)/.tests
	$(BIN)/ruff check --fix src tests docs
	$(BIN)/ruff format src tests docs

docs: $(VENV)/.runs
	$(BIN)/python docs/make_settings.py > docs/settings.new && mv docs/settings.new docs/settings.md

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Broker needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Say which to use, for example: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.tests: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for tests (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runs
