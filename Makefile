# STOIC. `make demo` or `make test` alone set everything up.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
# What images/setup.py put into the cache: libtorch, the backbone's weights, cmake and nasm.
ENV = eval "$$($(PYTHON) images/setup.py env)"
# Logs that `make evaluate` replays: the authors' where they lie beside the repository, or any others by name.
DATA ?= ../shared/data/stoic
RUNS ?= $(wildcard $(DATA)/invocations_jan2020.csv)
DEPLOYMENTS ?= $(wildcard $(DATA)/deployments_feb2020_batches_0_76.csv)
SIZES ?= $(wildcard $(DATA)/hourly_batch_sizes_nonzero.csv)
ACTIVITY ?= $(wildcard $(DATA)/hourly_activity_mean.csv)
BATCHES ?= 10000
EVALUATION = target/evaluation

.PHONY: help setup build demo evaluate images test test-cluster bench lint docs clean

help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Fetch libtorch, the pretrained backbone and build tools into a cache (once, about 180 MB, resumable)
	@$(PYTHON) images/setup.py

build: setup ## Release binaries in target/release
	@$(ENV); cargo build --release --workspace --bins

demo: build ## Train on generated scenes, then place batches at the edge or in the (emulated) cloud
	@$(ENV); exec target/release/stoic demo --out target/demo

evaluate: build ## Tables 2-5 and Figures 2, 3, 4, 6 of the paper into target/evaluation (RUNS=, DEPLOYMENTS=, SIZES= for other logs)
	@if [ -n "$(RUNS)" ]; then \
	  target/release/stoic evaluate simulate --scenario nautilus --batches $(BATCHES) --out $(EVALUATION)/simulation >/dev/null; \
	  target/release/stoic evaluate replay --runs "$(RUNS)" $(if $(DEPLOYMENTS),--deployments "$(DEPLOYMENTS)") \
	    $(if $(SIZES),--sizes "$(SIZES)") $(if $(ACTIVITY),--activity "$(ACTIVITY)") --out $(EVALUATION); \
	else \
	  echo "No logs at $(DATA): simulating the built-in scenario nautilus, with the embedded workload. RUNS=runs.csv replays a log."; \
	  target/release/stoic evaluate simulate --scenario nautilus --batches $(BATCHES) --out $(EVALUATION); \
	fi
	@echo "To read: $(EVALUATION)/index.html"

images: build ## Docker images of the gateway, the runtime and the functions (REGISTRY=localhost:5000 PUSH=1, CUDA=1)
	@$(PYTHON) images/build.py $(if $(REGISTRY),--registry "$(REGISTRY)") $(if $(PUSH),--push) $(if $(CUDA),--cuda)

test: setup ## Every test, against the real binaries
	@$(ENV); cargo build --workspace --bins
	@$(ENV); cargo test --workspace --no-fail-fast
	@cd images && $(PYTHON) -m unittest -q

test-cluster: setup ## Tests against the cluster in KUBECONFIG, which pulls from the registry REGISTRY; skipped where there is none
	@if [ -z "$${KUBECONFIG:-}" ] || [ -z "$${REGISTRY:-}" ]; then \
	  echo "skipped: no cluster (set KUBECONFIG, and REGISTRY to a registry that the cluster pulls from)"; exit 0; \
	fi; \
	HELM="$$(tests/helm.sh)" && export HELM; \
	$(ENV); cargo build --workspace --bins && \
	cargo test --workspace --no-fail-fast --test cluster --test cluster_faults \
	  --test resource --test resource_images --test kubeless_resource --test kubeless_command --test chart -- --nocapture --test-threads=3

bench: build ## Measure what docs/specification.md promises, each as a ratio in one run
	@$(ENV); tests/bench.sh

lint: setup ## Formatting, clippy and docs, warnings denied
	@cargo fmt --all --check
	@$(ENV); cargo clippy --workspace --all-targets -- -D warnings
	@$(ENV); RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

clean: ## Remove what was built here (the cache stays: images/setup.py says where it is)
	@cargo clean
