# The commands of the README: `make demo`, `make trees` and `make test`. All can be run again: what is installed and
# the data set stay; training and evaluation run again.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
bin := $(abspath $(VENV))/bin
# Stamps of the two sets of packages: what the demo needs, and what tests, lint and pages need beyond it.
installed := $(VENV)/.installed
installed_dev := $(VENV)/.installed-dev
# Errors only; the rest is in the log.
pip = $(bin)/pip install -qq --log $(VENV)/install.log

.PHONY: help env env-dev demo trees test test-core test-slow test-all lint docs dist clean

help:
	@echo "make demo      install, make a data set, train a small DEQDet, evaluate it, draw detections"
	@echo "make trees     real photographs: train on tree crowns, evaluate at another place"
	@echo "make test-core the tests of the model and its equilibrium without masks, half a minute to a minute"
	@echo "make test      the fast tests, about 5 minutes on 2 cores"
	@echo "make test-slow the slow ones: real trainings, about 45 minutes"
	@echo "make test-all  both"
	@echo "make lint      ruff and mypy, about half a minute"
	@echo "make docs      the documentation as pages, into site"
	@echo "make dist      the package as wheel and source archive, into dist"
	@echo "make env       only install, into $(VENV)"
	@echo "make env-dev   the same with all that tests, lint and pages need"

env: $(installed)

env-dev: $(installed_dev)

# A torch that fits, in the environment or in the interpreter it is made from, is kept.
$(installed): requirements.txt constraints.txt setup.py pyproject.toml
	@$(PYTHON) tools/check_python.py
	@test -x $(bin)/python || { echo "== making $(VENV)"; \
	  $(PYTHON) -m venv $$($(PYTHON) tools/check_python.py --torch && echo --system-site-packages) $(VENV); }
	@$(bin)/python tools/check_python.py --torch || { echo "== installing $(TORCH)"; \
	  $(pip) $(TORCH); }
	@echo "== installing mmdetection and what training needs; the log is $(VENV)/install.log"
	@$(pip) -r requirements.txt -c constraints.txt
	@$(pip) --no-deps --no-build-isolation -e .
	@touch $@

$(installed_dev): $(installed) requirements-dev.txt
	@echo "== installing what tests, lint and pages need; the log is $(VENV)/install.log"
	@$(pip) -r requirements-dev.txt -c constraints.txt
	@touch $@

demo: $(installed)
	@PATH="$(bin):$$PATH" bash tools/demo.sh

trees: $(installed)
	@PATH="$(bin):$$PATH" bash tools/trees.sh

# Two processes of one thread each: the tests' tensors are small. A file stays in one process, which keeps its
# fixtures; see tests/conftest.py for those that need the demo's training.
pytest := PATH="$(bin):$$PATH" OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadgroup

test-core: $(installed_dev)
	@$(pytest) -m "not slow" tests/model tests/equilibrium tests/test_golden.py --ignore tests/model/masks

test: $(installed_dev)
	@$(pytest) -m "not slow"

test-slow: $(installed_dev)
	@$(pytest) -v -m slow --no-loadscope-reorder

test-all: test test-slow

docs: $(installed_dev)
	@$(bin)/mkdocs build --strict

lint: $(installed_dev)
	@$(bin)/ruff check .
	@$(bin)/mypy

# The wheel is made from the source archive, so that is complete. An old build folder would leave its files in it.
dist: $(installed_dev)
	@rm -rf build
	@$(bin)/python -m build --no-isolation

clean:
	rm -rf $(VENV) work_dirs data/digits build dist
