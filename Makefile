# Each target sets itself up: python3 (3.11 or newer) with venv, and make, are all it takes. `make` lists the targets.

PYTHON ?= python3
WORKERS ?= 2
# Clouds' providers pass their suite in `make test-integration`, which shows what each of them declares and skips.
CLOUDS := $(filter-out %/test_local.py %/test_recall.py,$(wildcard tests/contract/pools/test_*.py)) tests/contract/terraform/test_provider.py
TESTS ?= $(wildcard tests/unit) $(filter-out $(CLOUDS),$(wildcard tests/contract/test_*.py tests/contract/*/test_*.py))
ARGS ?=

BIN := .venv/bin
LOCKED := pyproject.toml uv.lock scripts/uv

# All paths are relative, so that a clone may lie under a folder with spaces in its name.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
# A container often says 1; every command that a test starts would then compile the package again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-integration lint docs dashboards bench bench-replay bench-slurm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: .venv/.synced-run ## warm real nodes on this machine before a wave of work, and compare
	$(BIN)/preprov demo $(ARGS)

test: .venv/.synced-test ## unit and contract tests (TESTS=..., WORKERS=..., ARGS=...)
	$(BIN)/python -m pytest $(TESTS) -m "not integration" -n $(WORKERS) --dist worksteal $(COVER) $(ARGS)

coverage: COVER := --cov --cov-report term
coverage: test ## the same with branch coverage, which takes twice as long

test-integration: .venv/.synced-test ## tests against real components; as root, installs what they need
	scripts/integration $(ARGS)

lint: .venv/.synced-dev ## ruff, formatting, strict types, the import rule
	@failed=; \
	for check in "ruff check ." "ruff format --check ." "python -m mypy" "lint-imports --no-logo"; do \
	    echo "==> $$check"; \
	    $(BIN)/$$check || failed="$$failed [$$check]"; \
	done; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed" >&2; exit 1; fi

docs: .venv/.synced-dev ## generate the reference
	@if [ -f scripts/generate_reference.py ]; then set -x; $(BIN)/python scripts/generate_reference.py $(ARGS); \
	else set -x; $(BIN)/python -m preprov.cli.reference $(ARGS); fi

dashboards: .venv/.synced-test ## write the Grafana dashboard that dashboards/build.py describes
	$(BIN)/python -m dashboards.build $(ARGS)

bench: .venv/.synced-bench ## the figures of the README but for replays and Slurm's nights, as JSON
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(ARGS)

bench-replay: .venv/.synced-bench ## policies on the public traces (ARGS="nights --quick", --resume FOLDER, --pictures FOLDER)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.replay $(ARGS)

bench-slurm: .venv/.synced-bench ## nights on a real Slurm, with preprov and without (ARGS="--seeds 3 --history 1 --paired 1")
	$(BIN)/python -m benchmarks.slurm $(ARGS)

clean: ## remove caches and what tests and builds leave behind (not .venv and .venv-tools)
	rm -rf .coverage .coverage.* coverage.xml htmlcov dist build .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find preprov flows tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of groups; it is stale as soon as the lock is.
.venv/.synced-run: SETS :=
.venv/.synced-test: SETS := --group test
.venv/.synced-dev: SETS := --group dev
.venv/.synced-bench: SETS := --group test --extra bench

# Sets add up: none takes away what another has installed.
.venv/.synced-%: $(LOCKED) $(BIN)/python
	PYTHON="$(PYTHON)" scripts/uv sync --frozen --inexact --no-default-groups $(SETS)
	@touch $@

# Where it is gone, or the interpreter it points to, every stamp is stale.
$(BIN)/python: ;
