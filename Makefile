# The commands people type. Each keeps its environment in .venv and makes it when needed.
PYTHON ?= python3
BIN := .venv/bin
CORES ?= $(shell nproc)

.PHONY: demo test check bench schema lock
.DELETE_ON_ERROR:

demo: .venv/run  ## the whole pipeline on the embedded dataset
	$(BIN)/snakemake --cores $(CORES)

test: .venv/dev  ## all tests, in two processes, a file at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/dev  ## what a pull request must pass besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(shell find ccnet tests -name '*.cc' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h')
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

bench: .venv/dev  ## this project beside PyTorch on this machine; about half an hour
	$(BIN)/ccnet bench

schema: .venv/dev  ## write the hyperparameters of ccnet/settings.py to the config's schema
	$(BIN)/python workflow/schemas/generate.py

lock:  ## pin every version that a fresh environment with the newest allowed ones has
	$(PYTHON) -m venv --clear .venv/lock
	.venv/lock/bin/pip install --quiet . && .venv/lock/bin/pip freeze --exclude ccnet > requirements.lock
	.venv/lock/bin/pip install --quiet '.[dev]' && .venv/lock/bin/pip freeze --exclude ccnet > requirements-dev.lock
	rm -rf .venv/lock

# An environment works only where it was made, and while its Python is there: a moved or copied one is made anew.
ifneq ($(shell test -x $(BIN)/python && cat .venv/made 2>/dev/null),$(CURDIR))
.PHONY: .venv/made
endif

.venv/made:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "ccnet needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip --version > /dev/null
	echo '$(CURDIR)' > $@

.venv/run: .venv/made pyproject.toml requirements.lock
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

.venv/dev: .venv/run requirements-dev.lock
	$(BIN)/pip install --quiet --requirement requirements-dev.lock
	touch $@
