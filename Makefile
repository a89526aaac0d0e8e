# Homeport. Needs Python 3.11 or newer and make; everything else is fetched into .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCKS := --constraint requirements/runtime.lock --constraint requirements/dev.lock

# Stamps: touched when that much is installed, so that the second run is quick.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help install up test faults bench soak lint lock clean
.DELETE_ON_ERROR:

help: ## Say what there is to make.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done

install: $(INSTALLED) ## Make .venv with the homeport command.

up: $(INSTALLED) ## Run everything with a demo device; ARGS="--api-port 0 ..." goes to `homeport up`.
	@$(BIN)/homeport up --data-dir .homeport $(ARGS)

test: $(INSTALLED_DEV) ## Install what the tests need, and run them; ARGS="tests/homeport -k forward" chooses.
	@requirements/debian.sh
	@requirements/node.sh
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

faults: $(INSTALLED_DEV) ## Run every fault and thousands of simulated ones; `make test` runs a share.
	@requirements/debian.sh
	HOMEPORT_FAULTS=all $(BIN)/python -m pytest $(wildcard tests/faults) tests/simulation $(ARGS)

bench: $(INSTALLED_DEV) ## Measure against the Go reference; a table is printed. ARGS=--peers: against ssh -R too.
	@requirements/debian.sh $(if $(findstring --peers,$(ARGS)),peers)
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(INSTALLED_DEV) ## Half an hour of churn, faults and traffic; writes a report. ARGS="--minutes 5" makes it shorter.
	@requirements/debian.sh
	$(BIN)/python -m tests.soak $(ARGS)

lint: $(INSTALLED_DEV) ## Run the gates: ruff, mypy, import-linter.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(INSTALLED_DEV) ## Refresh requirements/*.lock from pyproject.toml.
	$(BIN)/python requirements/lock.py

clean: ## Remove what make made; the data of `make up` (.homeport) stays.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A dangling link (the system's Python went away) counts as missing, and the environment is made anew.
$(BIN)/python:
	@requirements/venv.sh $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml requirements/runtime.lock requirements/build.lock
	@echo "homeport: installing into $(VENV)"
	@$(PIP) --requirement requirements/build.lock
	@$(PIP) --no-build-isolation $(LOCKS) --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements/dev.lock
	@echo "homeport: installing what the gates and tests need into $(VENV)"
	@$(PIP) --no-build-isolation $(LOCKS) --group dev
	@touch $@
