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
say "one 1080p JPEG to pixels, against the image crate"
cargo bench --quiet -p stoic-wildlife --bench pixels
say "inference, against plain tch"
cargo bench --quiet -p stoic-runtime --bench inference
say "a 40 MB package from client to labels"
python3 tests/bench/package.py
say "prediction in the demo"
target/release/stoic demo --out target/bench/demo
