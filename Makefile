# Everything runs from .venv in this checkout. ARGS passes through: make demo ARGS="--dry-run", make test ARGS=tests/test_x.py

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTHON ?=
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

install: $(STAMP)  ## make .venv and install ganctl with everything that demo and tests need

demo: install  ## the main job: sweep, train the winner, print where the results lie
	@$(BIN)/ganctl demo $(ARGS)

test: install  ## the tests without those marked slow, in two processes
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-slow: install  ## the tests marked slow: real clusters, long training; in two processes
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

lint: install  ## ruff, mypy, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: install  ## docs/families: a page a family, made of its docstring, fields and recipes
	@$(BIN)/python -m orchestrator.handbook docs/families

clean:  ## remove .venv, caches and build output; results stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@python= ; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "ganctl needs Python 3.11, 3.12 or 3.13; tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)." \
	    "Install one, or name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $$python -m venv --clear $(VENV) \
	  || { echo "could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
