# make demo    render the bundled avatar to demo/       make test   format, lint, types, tests
# make view    the desktop viewer                       make lint   without the tests
# make quick   between commits: format, lint, the tests that need no process, window or training
# make test-wheel   the wheel in a new environment: demo, window, hints; downloads what pip needs
# make train-demo   film an actor, train an avatar of it for five minutes, measure and render it: train-demo/
# make docs    the documentation site: site/index.html; broken links and undocumented names fail
# make clean   remove what make made
# make fuzz    damaged files for every reader: SECONDS=300 SEED=0; what fails is kept in fuzz-failures/
# make lock    choose newer dependencies again
# Every target first makes .venv when it is missing or out of date; PYTHON=... chooses another Python.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:

TORCH := torch==2.13.0
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(shell command -v python3.11 || command -v python3) python3)
SECONDS ?= 300
SEED ?= 0
# A process for each core; files are shared out whole, those with slow tests first.
JOBS ?= auto
PARALLEL := --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# The stamp is named after what it stands for: an edited lock has no stamp yet.
KEY := $(firstword $(shell { echo $(TORCH); cat requirements.lock pyproject.toml; } | sha256sum))
READY := $(VENV)/.ready-$(KEY)
STUDIO := $(VENV)/.studio-$(KEY)

.PHONY: demo train-demo view test quick test-wheel fuzz lint docs setup lock clean

demo: $(READY)
	@$(BIN)/ash-studio demo --out demo

train-demo: $(STUDIO)
	@$(BIN)/ash-studio train-demo --out train-demo

view: $(READY)
	@$(BIN)/ash-studio view

test: lint
	@$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

quick: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest $(PARALLEL) -m quick $(PYTEST_ARGS)

# A new environment made by pip alone: a bare wheel, then the extra that it asks for.
test-wheel: $(READY)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir $$dir .; \
	$(PYTHON) -m venv $$dir/env; \
	pip="$$dir/env/bin/python -m pip --disable-pip-version-check --no-input"; \
	$$pip install --progress-bar off $(TORCH); \
	$$pip install --progress-bar off -c requirements.lock $$dir/*.whl; \
	PIP_CONSTRAINT=$(CURDIR)/requirements.lock ASH_WHEEL=$$dir/env/bin/ash-studio \
	  $(BIN)/python -m pytest tests/test_wheel.py

fuzz: $(READY)
	@$(BIN)/python tests/fuzz.py --seconds $(SECONDS) --seed $(SEED)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

setup: $(READY)

# torch first and alone: a package that needs torch would bring another build of it.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, got '$(PYTHON)': apt install python3.11 python3.11-venv, or make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) (2 GB with torch's CPU build, 6.6 GB with CUDA; once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: $(PYTHON) cannot make a virtual environment: apt install python3-venv (Debian, Ubuntu), then run make again" >&2; exit 1; }
	@$(PIP) install --progress-bar off $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@$(PIP) install --progress-bar off -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.ready-*
	@touch $@

# What makes actors is not in the lock: nothing else needs its 500 MB.
$(STUDIO): $(READY)
	@$(PIP) install --progress-bar off -c requirements.lock \
	  "$$(sed -n 's/^studio = \["\(.*\)"\]$$/\1/p' pyproject.toml)"
	@rm -f $(VENV)/.studio-*
	@touch $@

lock:
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PYTHON) -m venv $$dir; \
	pip="$$dir/bin/python -m pip --disable-pip-version-check --no-input"; \
	$$pip install --quiet $(TORCH); \
	$$pip install --quiet --upgrade 'pip>=25.1'; \
	$$pip install --quiet '.[capture,cuda,gui,slurm,splats,train]' --group dev --group docs; \
	{ sed '/^#/!d' requirements.lock; \
	  $$pip freeze --all --exclude pip --exclude torch --exclude ash-studio; } > $$dir/lock; \
	cp $$dir/lock requirements.lock

clean:
	rm -rf $(VENV) demo train-demo fuzz-failures site dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
