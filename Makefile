# Everything here sets up what it needs: Python >= 3.11, make, and root or sudo for apt are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help demo test thorough lint coverage conformance containers platforms examples image pages users attack fuzz faults bench docs tools clean dist zipapp deb install-matrix

help:
	@echo "make demo         build, export and show a small image on a base image made on the spot"
	@echo "make test         lint, type check and run all tests, as root"
	@echo "make thorough     make test with all parameters of the slow tests and as all kinds of users; about half an hour"
	@echo "make lint         ruff, mypy and codespell only"
	@echo "make coverage     which lines of builder/{jobs,sandbox,workers} tests reach, in all processes; fails below 90 %"
	@echo "make attack       100,000 recipes with something changed at random; PYBUILD_SEED=N for others"
	@echo "make fuzz         fuzz every reader of outside input for 10 minutes each, as many at once as there are cores;"
	@echo "                  MINUTES=N of each, TARGETS=\"tar recipe\" for some only, JOBS=N at once"
	@echo "make faults       kill, starve and damage builds and stores for up to an hour, as root; MINUTES=N [60], ROUNDS=N,"
	@echo "                  KINDS=\"killed crowd\" for some kinds only, PYBUILD_SEED=N for the same faults again"
	@echo "make conformance  only the recipes with results recorded from BuildKit, each as root and as an ordinary user"
	@echo "make containers   build a real recipe in containers of every kind: the same layers, or a clear word; a few minutes"
	@echo "make image        build pybuild's own image with this checkout: .image/pybuild.tar; PLATFORMS=linux/amd64,linux/arm64 for"
	@echo "                  both of them, with an emulator and a base from a registry"
	@echo "make pages        measure the page of an image with 500,000 paths in a browser; fails if it is slower than promised"
	@echo "make platforms    Debian with packages for amd64, arm64 and riscv64, by root and by an ordinary user; needs the network"
	@echo "make examples     build, run and measure the projects of examples/; needs the network; NAMES=\"go uv\" for some only,"
	@echo "                  PULL=1 for the base of docker.io instead of one that mmdebstrap makes; a quarter of an hour"
	@echo "make users        only what people bring from elsewhere: tests/users/cases is the list"
	@echo "make bench        compare the speed with other tools; ROWS=\"pull ready\" for some rows only, RUNS=N [5]"
	@echo "make docs         the documents as a site in site/, every page looked at in a browser; PICTURES=DIR takes pictures"
	@echo "make dist         the sdist and the wheel, checked as PyPI would check them, in dist/"
	@echo "make zipapp       a single file with everything, for this Python and this processor, in dist/"
	@echo "make deb          the Debian package pybuild-image, for this Python and this processor, in dist/"
	@echo "make install-matrix  install it in every way in roots of Debian 12, 13 and forky, as root; some minutes"

# pybuild alone, without the tools of its tests: half of the time.
$(VENV)/installed: pyproject.toml
	@fixtures/make_venv.sh "$(PYTHON)" $(VENV)
	@touch $@

$(VENV)/ready: pyproject.toml
	@fixtures/make_venv.sh "$(PYTHON)" $(VENV) '[test]'
	@touch $(VENV)/installed $@

demo: $(VENV)/installed
	@fixtures/demo.sh

tools:
	fixtures/install_tools.sh

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check values parser store remote builder pybuild
	$(BIN)/mypy
	$(BIN)/codespell

# The tests of a file share fixtures, so one process runs the whole file.
test: tools lint
	$(SUDO) env PYBUILD_SHARE=1 $(BIN)/python -m pytest -n auto --dist loadfile

thorough: tools lint
	$(SUDO) env PYBUILD_EVERYBODY=1 $(BIN)/python -m pytest -n auto --dist loadfile

# All processes that these tests start are measured too, also those that end by exec or by a signal.
coverage: tools $(VENV)/ready
	$(SUDO) $(BIN)/python -m fixtures.measure_coverage

conformance: tools $(VENV)/ready
	$(SUDO) env PYBUILD_EVERYBODY=1 $(BIN)/python -m pytest tests/conformance

containers: tools $(VENV)/ready
	$(SUDO) env PYBUILD_CONTAINERS=all $(BIN)/python -m pytest tests/containers/test_matrix.py tests/containers/test_in_place.py \
	    tests/containers/own_image.py

platforms: tools $(VENV)/ready
	$(SUDO) $(BIN)/python -m tests.platforms

examples: tools $(VENV)/ready
	$(SUDO) $(BIN)/python -m tests.examples $(if $(PULL),--pull) $(NAMES)

image: tools $(VENV)/ready
	$(SUDO) env PYBUILD_IMAGE_PLATFORMS=$(PLATFORMS) sh images/pybuild/make.sh $(abspath $(BIN))/python $(CURDIR)/.image

pages: tools $(VENV)/ready
	$(BIN)/python -m tests.pybuild.pages.measure

users: tools $(VENV)/ready
	$(SUDO) env PYBUILD_EVERYBODY=1 $(BIN)/python -m pytest -n auto tests/users

attack: $(VENV)/ready
	PYBUILD_MUTATIONS=100000 $(BIN)/python -m pytest tests/parser/test_mutations.py

$(VENV)/fuzz-ready: $(VENV)/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e '.[fuzz]'
	touch $@

fuzz: $(VENV)/fuzz-ready
	$(BIN)/python -m tests.fuzz $(addprefix --minutes=,$(MINUTES)) $(addprefix --jobs=,$(JOBS)) $(TARGETS)

faults: tools $(VENV)/ready
	$(SUDO) $(BIN)/python -m tests.faults --minutes $(or $(MINUTES),60) \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PYBUILD_SEED),--seed $(PYBUILD_SEED)) $(KINDS)

$(VENV)/release-ready: $(VENV)/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e '.[release]'
	touch $@

# The same commit gives the same bytes, whenever it is built.
dist zipapp deb: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)

dist: $(VENV)/release-ready
	rm -f dist/*.whl dist/*.tar.gz
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

zipapp: dist
	$(BIN)/python packaging/make_zipapp.py dist

deb: dist
	packaging/make_deb.sh dist/*.whl dist

install-matrix: dist
	$(SUDO) $(BIN)/python packaging/install_matrix.py dist $(SUITES)

$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e '.[docs]'
	touch $@

docs: tools $(VENV)/docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m tests.documents site $(PICTURES)

bench: $(VENV)/ready
	bench/install_tools.sh
	$(BIN)/python -m bench --runs $(or $(RUNS),5) $(ROWS)

clean:
	rm -rf $(VENV) .demo .bench .examples .fuzz .image build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
