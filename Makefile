# Everything here sets up what it needs: Python >= 3.11, make, and root or sudo for apt are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint conformance tools clean

help:
	@echo "make demo         build, export and show a small image on a base made on the spot"
	@echo "make test         lint, type check and run all tests"
	@echo "make lint         ruff and mypy only"
	@echo "make conformance  only the recipes with results recorded from BuildKit"

$(VENV)/ready: pyproject.toml
	fixtures/make_venv.sh "$(PYTHON)" $(VENV)
	touch $@

demo: $(VENV)/ready
	fixtures/demo.sh

tools:
	fixtures/install_tools.sh

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check parser store builder pybuild
	$(BIN)/mypy

test: tools lint
	$(BIN)/python -m pytest

conformance: tools $(VENV)/ready
	$(BIN)/python -m pytest tests/conformance

clean:
	rm -rf $(VENV) .demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
