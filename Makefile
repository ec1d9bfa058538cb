# A fresh machine needs Python 3.11 or newer, make and a C compiler. Everything made here stays in this folder.

PYTHON ?= python3
CONFIG ?= configs/demo.yaml

BIN := .venv/bin
CLIENTS := .clients
ENGINES := .engines
DEMO := .demo
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(BIN)/router install --dir $(ENGINES)

.PHONY: help venv demo up engines clients test chaos lint fmt bench bench-start bench-soak clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make up         start three real engines and the router: a chat, an embedding and a rerank model"
	@echo "make test       install the engines of the tests, check the code and run every test"
	@echo "make chaos      more than 200 faults on a running router under load: docs/reliability.md, a quarter of an hour"
	@echo "make lint       check the code only"
	@echo "make fmt        format the code"
	@echo "make bench      what the router costs, beside others: bench/RESULTS.md (ARGS=--quick for the short form)"
	@echo "make bench-start how long from router up to ready, beside the engine alone"
	@echo "make bench-soak whether its memory grows at half load, for 10 minutes (SECONDS=60 for one)"
	@echo "make venv       only make the environment, .venv (PYTHON=python3.12 to choose another Python)"
	@echo "make clean      remove .venv, the demo models and caches (make distclean: the tests' engines, clients and peers too)"

# Each stamp is touched last, so that a step that was interrupted is done again.
.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " \
		+ sys.version.split()[0] + ": try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/.up: .venv/.made pyproject.toml
	$(PIP) install --quiet --editable '.[llamacpp]' --group demo
	@touch $@

.venv/.test: .venv/.up
	$(PIP) install --quiet --editable '.[llamacpp]' --group test
	@touch $@

$(DEMO)/.made: .venv/.up $(wildcard demo/*.py)
	$(BIN)/python -m demo $(DEMO) --force
	@touch $@

venv: .venv/.up

demo: $(DEMO)/.made

# exec: Ctrl-C and SIGTERM reach the router itself, and make waits for it.
up: .venv/.up $(DEMO)/.made
	@exec $(BIN)/router up -c $(CONFIG)

# The tests' models are tiny, so llama.cpp is compiled for a short wait and not for speed.
QUICK := CMAKE_ARGS="-DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1"

# Each install does nothing where the engine is complete.
engines: .venv/.up
	$(QUICK) $(INSTALL) llamacpp --form python
	$(QUICK) $(INSTALL) llamacpp --form server
	$(INSTALL) infinity --cpu
	$(INSTALL) vllm --cpu
	$(INSTALL) transformers --cpu
	$(INSTALL) mlx --cpu

# The programs that the tests put in front of the router, in an environment of their own. Node comes as a wheel, and its
# npm is for machines without one. Whose network has a certificate authority of its own has told OpenSSL or pip of it.
$(CLIENTS)/.made: .venv/.made tests/clients/requirements.lock tests/clients/node/package-lock.json
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r tests/clients/requirements.lock
	NODE_EXTRA_CA_CERTS="$${NODE_EXTRA_CA_CERTS:-$${SSL_CERT_FILE:-$$PIP_CERT}}" \
		PATH="$$PATH:$(abspath $(CLIENTS))/bin" npm ci --no-fund --no-audit --prefix tests/clients/node
	@touch $@

clients: $(CLIENTS)/.made

test: lint engines clients $(DEMO)/.made
	$(BIN)/python -m pytest

chaos: .venv/.test $(DEMO)/.made
	PYTHONPATH=tests $(BIN)/python -m chaos --publish $(ARGS)

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fmt: .venv/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/.bench: .venv/.up
	$(PIP) install --quiet --group bench
	@touch $@

# The peers are installed below .bench, each in an environment of its own; one that cannot be had is left out.
bench: .venv/.bench $(DEMO)/.made
	$(BIN)/python -m bench $(ARGS)

bench-start: .venv/.bench $(DEMO)/.made
	$(BIN)/python -m bench start

bench-soak: .venv/.bench
	$(BIN)/python -m bench soak --seconds $(or $(SECONDS),600)

clean:
	rm -rf .venv $(DEMO) .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -not -path './$(ENGINES)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(ENGINES) $(CLIENTS) tests/clients/node/node_modules .bench
