# Every command works on a machine that has Python 3.11 or newer and make: the first one sets everything up.
.PHONY: demo dev test check bench soak clean help
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Some machines forbid it; then every process that Dagster starts would compile thousands of modules anew.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show this list.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --quiet --inexact
	@touch $(READY)

demo: $(READY)  ## Run the main job once: database, sandbox, Dagster, every source, the gate, the backtest, QuickBooks.
	@$(BIN)/finance-os demo $(ARGS)

dev: $(READY)  ## Open the Dagster UI over the embedded database and the sandbox, until Ctrl-C.
	@$(BIN)/finance-os dev $(ARGS)

test: $(READY)  ## Run the tests.
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: $(READY)  ## Lint, types, formatting, and whether Dagster can load the definitions.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	@mkdir -p .venv/dagster-home
	DAGSTER_HOME=$(CURDIR)/.venv/dagster-home $(BIN)/dagster definitions validate --workspace workspace.yaml

bench: $(READY)  ## Measure speed; FULL=1 for the large sizes.
	@FULL=$(FULL) $(BIN)/python -m finance_os_tests.benchmarks $(ARGS)

soak: $(READY)  ## Kill backfills (50 times) and the export (600 times) at every moment, and compare what is left.
	@SOAK_SEEDS=$${SOAK_SEEDS:-50} SOAK_EXPORT_SEEDS=$${SOAK_EXPORT_SEEDS:-300} $(BIN)/python -m pytest -m soak -n 2 $(ARGS)

clean:  ## Remove the environment and everything kept in var/: the embedded database, handed-in files, anchors.
	rm -rf .venv var .pytest_cache .ruff_cache .hypothesis
