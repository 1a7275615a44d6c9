# Two commands do everything on a fresh Debian 12/13 or Ubuntu 24.04: `make run` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# what guests must be told of this host: its authorities, its mirrors
AROUND := eval "$$($(BIN)/python scripts/surroundings.py)";

.PHONY: help setup run test check unit vm bars bench bench-compare fmt clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

setup: ## Install what is missing on this machine, and the command at .venv/bin/emberkeep
	@scripts/setup-host.sh

run: setup ## Set up, start Emberkeep, run the example end to end, stop again
	@scripts/run.sh

test: setup check unit vm ## Everything CI runs

check: ## Lint, types, import rules, lock file, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry src
	$(BIN)/uv lock --check
	$(BIN)/python scripts/unasync.py --check

unit: ## Fast tests, no VM
	$(BIN)/pytest

vm: ## Tests on real microVMs; KVM, or TCG and patience
	$(AROUND) $(BIN)/pytest -m 'vm and not bars' tests/vm tests/hostile

bars: setup ## The long checks: cycles, crash loops, fuzzing, what CI has no time for
	$(AROUND) $(BIN)/pytest -m bars tests

bench: setup ## Measure, beside a bare script; BENCH="-n 50 --full" for more (docs/performance.md)
	$(BIN)/emberkeep setup
	$(BIN)/python -m bench $(BENCH)

bench-compare: ## Two runs beside each other: make bench-compare A=one.json B=other.json
	@$(BIN)/python -m bench compare $(A) $(B) $(filter-out $@,$(MAKECMDGOALS))

fmt: ## Format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove the virtual environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
