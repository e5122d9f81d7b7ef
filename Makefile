# Every target that is meant to be called has its help after `##`.

# The first interpreter that is new enough; `make PYTHON=/path/to/python3 …` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
INSTALLED := .venv/.installed
DEV_INSTALLED := .venv/.dev-installed
export PYTHONUTF8 := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install quickstart test soak peers check format docs lock clean

help: ## show this page
	@echo "Tongwen: make TARGET"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make the environment in .venv from requirements.lock

quickstart: $(INSTALLED) ## teach a small bilingual model here and now (about 10 minutes on 2 cores)
	$(BIN)/tongwen quickstart

test: $(DEV_INSTALLED) ## install what the tests need and run them
	$(BIN)/python -m pytest

soak: $(DEV_INSTALLED) ## run the long tests: README blocks, killed and resumed runs
	$(BIN)/python -m pytest -m "slow or soak"

peers: $(DEV_INSTALLED) ## install transformers' trainer, PEFT and TRL apart, and train beside them
	$(BIN)/python -m pytest -m peers

check: $(DEV_INSTALLED) ## lint, format, types, and a reference that is up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python docs/make_reference.py --check

format: $(DEV_INSTALLED) ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED) ## write docs/reference anew from the code
	$(BIN)/python docs/make_reference.py

LOCK := $(BIN)/python -m piptools compile --quiet --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade
# A lock names no build of torch (2.13.0, not 2.13.0+cpu): the index that pip uses decides, and
# the CUDA packages of a build follow from torch's own pins.
define write_lock
	$(LOCK) $(2) --output-file .venv/new.lock pyproject.toml
	{ echo '# $(3); made by `make lock`.'; \
	  awk '/^[a-z]/ { cuda = /^(nvidia|triton|cuda)-?/ } !cuda' .venv/new.lock \
	  | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > $(1)
	rm .venv/new.lock
endef

lock: $(INSTALLED) ## resolve pyproject.toml anew into both locks
	$(BIN)/python -m pip install --quiet pip-tools
	$(call write_lock,requirements.lock,,Every package the program runs on)
	$(call write_lock,requirements-dev.lock,--extra dev,The same and what tests and checks need)

clean: ## remove the environment and the caches, not what you trained
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build src/tongwen.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || { \
	  echo "error: Tongwen needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1)"; \
	  echo "hint: install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; } >&2
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
	  echo "error: Tongwen needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)"; \
	  exit 1; } >&2
	@$(PYTHON) -m venv .venv || { \
	  echo "hint: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf .venv; exit 1; }

$(INSTALLED): requirements.lock pyproject.toml | .venv/bin/python
	@echo "installing the packages of requirements.lock into .venv (once; torch is large)" >&2
	@$(BIN)/python -m pip install --quiet -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_INSTALLED): requirements-dev.lock $(INSTALLED)
	@echo "installing what tests and checks need (once)" >&2
	@$(BIN)/python -m pip install --quiet -r requirements-dev.lock
	@touch $@
