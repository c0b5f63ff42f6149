# Everything happens in .venv; nothing is installed outside it. `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench

# The interpreter that makes .venv: the first of these that runs and is new enough, or the one that PYTHON names.
PYTHON ?=
CANDIDATES = $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))

BENCHMARKS = benchmarks/cli_start.py benchmarks/neardup.py benchmarks/datagen.py benchmarks/loader.py \
             benchmarks/vectors.py benchmarks/embed.py

help:
	@echo "make setup      .venv with fashionkit and its tools (again only when its requirements change)"
	@echo "make demo       the main job on the drawn catalogue"
	@echo "make test       the default tests"
	@echo "make test-slow  the slow ones; the first time this fetches Ray"
	@echo "make lint       ruff and mypy"
	@echo "make bench      the benchmarks"

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@python=; for one in $(CANDIDATES); do \
	  if $$one -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then python=$$one; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "fashionkit needs Python 3.11 or newer; tried: $(CANDIDATES); python3 is $$(python3 --version 2>&1 || true)." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.11 setup" >&2; exit 2; \
	fi; \
	[ -x .venv/bin/python ] || $$python -m venv .venv
	@echo "Installing into .venv; the first time this fetches PyTorch, which takes some minutes."
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The engine that only the slow tests need.
.venv/.ray: .venv/.installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	@touch $@

demo: setup
	sh datagen/demo.sh

test: setup
	.venv/bin/python -m pytest -q -n 2 --dist loadfile # tests of one file may build on each other

test-slow: .venv/.ray
	.venv/bin/python -m pytest -q -m slow

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: setup
	@for file in $(BENCHMARKS); do echo "== $$file"; .venv/bin/python $$file || exit 1; done
