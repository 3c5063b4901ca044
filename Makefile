# Two commands for a fresh machine: `make demo` and `make test`. Both install what they need first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Test processes side by side; each has a database and a lab of its own.
JOBS ?= 2
PLUGINS := $(notdir $(patsubst %/fiftyone.yml,%,$(wildcard fiftyone_plugins/*/fiftyone.yml)))

# Where images set this, every process would compile what it imports again: seconds each for FiftyOne and torch.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench up lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml tools/bootstrap.py tools/ensure_mongod.py
	@$(PYTHON) tools/bootstrap.py
	@touch $@

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## the whole loop on a small data set, ending with a served prediction
	@$(BIN)/osv demo $(ARGS)

test: $(STAMP) ## all tests
	@$(BIN)/python tools/ensure_chromium.py
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd fiftyone_plugins && ../$(BIN)/mypy --config-file ../pyproject.toml $(foreach one,$(PLUGINS),-p $(one))

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## the benchmarks, as ratios against a peer in one run
	@$(BIN)/python -m benchmarks $(ARGS)

up: $(STAMP) ## the server, MLflow, the FiftyOne App and JupyterLab, until Ctrl-C
	@$(BIN)/osv up $(ARGS)

lock: ## pin again what pyproject.toml asks for
	@uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 --upgrade \
		--no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock

clean: ## remove the environment and what tools left behind
	@rm -rf .venv .osv .mypy_cache .ruff_cache .pytest_cache .hypothesis test-output
