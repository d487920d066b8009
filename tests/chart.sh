#!/usr/bin/env bash
# Writes deploy/kubernetes/gateway.yaml anew: what the chart makes of its defaults.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=$(tests/helm.sh)
"$helm" template stoic deploy/helm/stoic --namespace stoic --set auth.existingSecret=stoic-admin \
  | sed 's/ *$//' > deploy/kubernetes/gateway.yaml
