# Everything a developer or CI does here. On a machine with Python 3.11 or later and make,
# `make run` and `make test` need nothing set up before them.

# The first interpreter on the path that is new enough; `make PYTHON=/some/python` overrides it.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV_VERSION := 0.13.9

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
STAMP := $(VENV)/.setup-stamp

# Trust the certificates the machine trusts, like pip, curl and git do.
export UV_SYSTEM_CERTS ?= 1
# The environment below is the only one meant, whichever one a shell has activated.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: setup run test terminal browser screenshots check format proto bench faults lock clean help

help:
	@echo 'make setup    .venv with locked versions, both distributions in editable form, the chat page'
	@echo 'make run      sidecar and demo app as two processes, and the chat page in the browser'
	@echo 'make test     every unit and integration test     (ARGS="-k name" narrows it)'
	@echo 'make terminal the chat in a real pseudo-terminal'
	@echo 'make browser  the chat page in a headless Chromium  (make screenshots: its pictures)'
	@echo 'make check    lint, types, protos, import contracts, generated code, the chat page'
	@echo 'make faults   kill, freeze, fill the disk, and look what was lost'
	@echo 'make bench    measurements                        (BENCH=row BENCH_SHORT=1)'
	@echo 'make proto    generate code from proto/           (STUBS=java for another language)'
	@echo 'make format   let ruff format and fix'
	@echo 'make lock     resolve versions anew into the lock files'
	@echo 'make clean    remove what these made'

setup: $(STAMP)
	@$(PY) scripts/build_page.py

$(UV):
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed and none was found' >&2; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@# Debian's Python may come without ensurepip; its own pip can fill the environment then.
	if $(PY) -m pip --version >/dev/null 2>&1; \
	then $(PY) -m pip install -q --disable-pip-version-check uv==$(UV_VERSION); \
	else $(PYTHON) -m pip --python $(PY) install -q --disable-pip-version-check uv==$(UV_VERSION); fi

$(STAMP): requirements.lock pyproject.toml client/python/pyproject.toml | $(UV)
	$(UV) pip install -q --require-hashes -r requirements.lock
	$(UV) pip install -q --no-deps --no-build-isolation -e client/python -e .
	@touch $@

run: setup
	$(PY) scripts/run_demo.py

# Side by side: most tests wait for something, as a lease's end, more than they work.
WORKERS ?= 2
NODE_TESTS := $(wildcard tests/neutral/typescript/package-lock.json)

test: setup
	$(if $(NODE_TESTS),@$(PY) scripts/toolbox.py --npm $(dir $(NODE_TESTS)) >/dev/null)
	$(PY) -m pytest -n $(WORKERS) --dist worksteal tests/unit tests/integration $(wildcard tests/neutral) $(ARGS)

TERMINAL_TESTS := $(wildcard tests/terminal)

terminal: setup
	$(PY) -m pytest $(TERMINAL_TESTS) $(ARGS)

BROWSER_TESTS := $(wildcard tests/browser)

browser: setup
	$(if $(BROWSER_TESTS),$(PY) -m pytest -s $(BROWSER_TESTS) $(ARGS),@echo 'there are no tests/browser')

screenshots: setup
	$(PY) -m tests.browser.screenshots $(ARGS)

faults: setup
	$(PY) -m pytest tests/faults $(ARGS)

bench: setup
	BENCH='$(BENCH)' BENCH_SHORT='$(BENCH_SHORT)' $(PY) -m tests.bench

check: setup
	$(PY) scripts/check.py

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) scripts/toolbox.py --node npm --prefix client/web run --silent format
	$$(dirname $$($(PY) scripts/toolbox.py proto))/buf format -w proto

proto: setup
	$(PY) scripts/gen_protos.py $(if $(STUBS),--stubs $(STUBS))
	$(if $(STUBS),,$(PY) scripts/gen_wire.py)
	$(if $(STUBS),,$(PY) scripts/gen_blocks.py)

lock: $(UV)
	$(UV) pip compile pyproject.toml client/python/pyproject.toml \
		--group dev --all-extras --universal --python-version 3.11 \
		--no-emit-package capsule-client --no-header --generate-hashes --upgrade \
		-q -o requirements.lock
	for name in $(basename $(notdir $(wildcard scripts/tools/*.in))); do \
		$(UV) pip compile scripts/tools/$$name.in --universal --python-version 3.11 \
			--no-header --generate-hashes --upgrade -q -o scripts/tools/$$name.lock || exit 1; \
	done

clean:
	rm -rf capsule_sidecar/web/page client/web/node_modules $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
