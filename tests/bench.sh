#!/usr/bin/env bash
# What docs/specification.md promises, measured. Everything runs on this machine, one thing after the other;
# figures are kept under target/bench. Called by `make bench`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '\n== %s\n' "$*"; }

say "start of the gateway"
python3 tests/bench/start.py
say "warm echo: direct, nginx, gateway"
python3 tests/bench/proxy.py
say "placement: decision, refit, re-calibration"
cargo bench --quiet -p stoic-placement
say "the same fits in scikit-learn and statsmodels (their own environment under target)"
cargo build --quiet --release -p stoic-placement --example fits
[ -x target/sklearn/bin/python ] || python3 -m venv target/sklearn
target/sklearn/bin/pip install --quiet --disable-pip-version-check scikit-learn statsmodels
target/sklearn/bin/python tests/bench/scikit_learn.py target/release/examples/fits
say "replay of a log, each row predicted from the rows before it"
cargo bench --quiet -p stoic-evaluation
say "100,000 simulated batches under every policy"
time target/release/stoic evaluate simulate --scenario nautilus --batches 100000 --seed 1 --out target/bench/simulation
say "one 1080p JPEG to pixels, against the image crate"
cargo bench --quiet -p stoic-wildlife --bench pixels
say "inference, against plain tch"
cargo bench --quiet -p stoic-runtime --bench inference
say "a 40 MB package from client to labels"
python3 tests/bench/package.py
say "one batch at both sites together, in pairs with each site alone"
python3 tests/bench/modes.py
say "an edge box and its cloud over a held link between network namespaces: predictions, faults"
python3 tests/bench/link.py
say "cold, zygote, standby and warm by stage, on process and Docker sites, with baselines and bursts"
python3 tests/bench/starts.py
say "memory: 1,000 functions declared, 200 pods, a forked pod"
python3 tests/bench/memory.py
say "pools: bursts of 16, a killed pod"
python3 tests/bench/pools.py
say "100,000 asynchronous calls, the gateway killed five times"
python3 tests/bench/async_calls.py
say "a cluster: 1,000 functions and 200 pods, the API server away, the gateway's pod deleted, starts beside a bare pod"
python3 tests/bench/cluster.py
say "prediction in the demo"
target/release/stoic demo --out target/bench/demo
