# `make help` lists the targets. Needs GNU make, sh and Python 3.11 or later; no more.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--no-emit-package mobius-instrumentation \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

# Some environments forbid bytecode; without it each of the stack's processes compiles thousands of files anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv up test check format bench soak fuzz lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: .venv/.stamp ## Install what is needed into .venv, and nothing else

# The stamp is as new as the last complete install; uv.txt is in the sync so that uv outlives it.
# Where uv cannot reach an index (it does not read pip's settings), pip installs the same locked files.
.venv/.stamp: requirements/uv.txt requirements/dev.txt pyproject.toml instrumentation/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'make venv: $(PYTHON) is older than Python 3.11; say make PYTHON=python3.11' >&2; exit 1; }
	test -x $(UV) || { $(PYTHON) -m venv --clear .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; }
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/uv.txt requirements/dev.txt || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e ./instrumentation -e .
	$(BIN)/python -m compileall -q -j 0 .venv/lib instrumentation pipeline analysis dashboards infra || true
	@touch $@

up: venv ## Start the local stack with demo services, traffic and dashboard
	$(BIN)/mobius-rum up

test: venv ## Run the tests (CHROMIUM=install: install Chromium first, as root)
	@sh infra/scripts/ensure_chromium.sh
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: venv ## What CI runs before the tests: format, lint, types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## Format the code and repair what ruff can
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

bench: venv ## Run the benchmarks; prints JSON
	@$(BIN)/python -m mobius_infra.benchmarks

soak: venv ## Run the long tests that `make test` leaves out
	@sh infra/scripts/ensure_chromium.sh
	$(BIN)/pytest -m soak --timeout 0

# Atheris has a folder of its own: nothing else needs it, and it has no wheels for the newest Pythons.
FUZZ_TARGETS ?= wire span-files result-files texts encoder engine-spans engine-results
SECONDS ?= 60
.fuzz/packages/.stamp: requirements/fuzz.txt | venv
	$(UV) pip install --quiet --python $(BIN)/python --target .fuzz/packages --require-hashes -r requirements/fuzz.txt || \
		$(BIN)/python -m pip install --quiet --target .fuzz/packages --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: venv .fuzz/packages/.stamp ## Fuzz each target for SECONDS of CPU (docs/fuzzing.md)
	@failed=; for target in $(FUZZ_TARGETS); do PYTHONPATH=.fuzz/packages \
		$(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS) 2>.fuzz/$$target.log || failed="$$failed $$target"; \
		done; test -z "$$failed" || { echo "make fuzz: findings in .fuzz/TARGET/findings:$$failed" >&2; exit 1; }

# runtime.txt takes its versions from dev.txt, so that what is tested is what is installed.
lock: venv ## Resolve requirements/*.txt anew (UPGRADE=1: to the newest versions)
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml instrumentation/pyproject.toml requirements/dev.in --all-extras -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra all -c requirements/dev.txt -o requirements/runtime.txt
	$(COMPILE) requirements/fuzz.in -o requirements/fuzz.txt

clean: ## Remove .venv, caches and built files; data stays
	rm -rf .venv .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist instrumentation/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
