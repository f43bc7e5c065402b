# make test   everything a change must pass; installs what it needs
# make test-cluster   the second tier: SLURM at length, pools, containers, Grid Engine (Debian, root)
# make test-ordinary  tests on SLURM as an ordinary user (Debian, root makes the user)
# make test-accounting   SLURM with its accounting: slurmdbd, MariaDB (Debian, root)
# make wheel  dist/mlnb-VERSION-py3-none-any.whl, with the JavaScript built; make test-wheel installs and uses it
# make docs   the documentation as a site, in site/; fails on a warning or a dead link
# make lab    JupyterLab with mlnb in notebooks/
# make slurm  a real SLURM on this machine (Debian, root); make slurm-accounting has sacct too; make slurm-down
# make gridengine  the same for Grid Engine; make gridengine-down
# make container-image   images with and without torch, for tests of container engines (Debian, root)

# The first Python that runs and is new enough; 3.11 before the others.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
PYTEST_ARGS ?=
# A worker takes whole files, and waits for runs half of the time; on a machine with many cores more may be used.
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
MODULES := node_modules/.package-lock.json
WIDGET := mlnb/static/widget.js
SOURCES := package.json $(shell find labextension -type f -not -path '*/lib/*' -not -path '*/tests/*' 2>/dev/null)
SERVER := $(VENV)/etc/jupyter/jupyter_server_config.d/mlnb.json
LAB := $(VENV)/share/jupyter/labextensions/mlnb-labextension
CHROMIUM := /usr/bin/chromium
IS_ROOT := test "$$(id -u)" = 0

# npm's scripts call jupyter-builder.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: all venv js wheel docs lint test test-wheel test-cluster test-ordinary test-accounting demo lab bench clean npm chromium \
	slurm slurm-accounting slurm-down gridengine gridengine-down container-image
.DELETE_ON_ERROR:

all: js

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt package-lock.json hatch_build.py | npm
	@test -n "$(PYTHON)" || { echo "mlnb needs Python 3.10 or newer; say where: make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,dev,docs,lab]'
	@touch $@

npm:
	@command -v npm >/dev/null || { $(IS_ROOT) && command -v apt-get >/dev/null \
		&& apt-get update -q && apt-get install -y -q --no-install-recommends nodejs npm; } \
		|| { echo "mlnb needs npm (Node.js 20 or newer): please install it" >&2; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
		|| { echo "mlnb needs Node.js 20 or newer; this is $$(node --version)" >&2; exit 1; }

chromium:
	@test -x $(CHROMIUM) || { $(IS_ROOT) && command -v apt-get >/dev/null \
		&& apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } \
		|| echo "no $(CHROMIUM): the browser tests will be skipped" >&2

js: $(WIDGET)

$(MODULES): package-lock.json | npm
	npm ci
	@touch $@

# The environment holds a copy of the extension; it is renewed here so that JupyterLab shows what was built.
$(WIDGET): $(SOURCES) $(MODULES) | $(STAMP)
	npm run -s build:prod
	@rm -rf $(LAB) && mkdir -p $(dir $(LAB)) && cp -R mlnb/labextension $(LAB)
	@mkdir -p $(dir $(SERVER)) && cp labextension/server-config/mlnb.json $(SERVER)

lint: $(STAMP) $(MODULES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run -s lint

test: $(STAMP) js lint chromium
	npm run -s test
	$(BIN)/python -m pytest -m "not wheel and not cluster and not accounting" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Built with the tools of the development environment, whose versions are pinned.
wheel: $(STAMP) $(MODULES)
	@rm -f dist/*.whl
	$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .

test-wheel: wheel
	MLNB_WHEEL="$$(echo dist/*.whl)" $(BIN)/python -m pytest -m wheel $(PYTEST_ARGS)

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# These mostly wait, and each test session has a SLURM of its own: make -j3 -O runs the three at the same time.
test-cluster: $(STAMP) js
	$(IS_ROOT) && python3 tests/testbeds/image.py build || echo "no images: tests in containers will be skipped" >&2
	$(BIN)/python -m pytest -m cluster -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-ordinary: $(STAMP) js
	$(BIN)/python -m tests.testbeds.as_ordinary -m "not accounting" tests/clusters/slurm $(PYTEST_ARGS)

test-accounting: $(STAMP)
	$(BIN)/python -m pytest -m accounting tests/clusters/slurm $(PYTEST_ARGS)

demo: $(STAMP) js
	$(BIN)/python notebooks/run_demo.py $(if $(ON),--on $(ON))

lab: $(STAMP) js
	$(BIN)/jupyter lab --notebook-dir=notebooks

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/run.py

slurm:
	@$(PYTHON) tests/testbeds/slurm.py up

slurm-accounting:
	@$(PYTHON) tests/testbeds/slurm.py up --accounting

slurm-down:
	@$(PYTHON) tests/testbeds/slurm.py down

gridengine:
	@$(PYTHON) tests/testbeds/gridengine.py up

gridengine-down:
	@$(PYTHON) tests/testbeds/gridengine.py down

container-image: $(STAMP)
	@$(BIN)/python tests/testbeds/image.py build

clean:
	rm -rf $(VENV) node_modules labextension/lib mlnb/labextension mlnb/static dist build site demo-out \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis
