#!/usr/bin/env bash
# Writes deploy/kubernetes/gateway.yaml anew: what the chart makes of its defaults.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=$(tests/helm.sh)
made=$(mktemp)
trap 'rm -f "$made"' EXIT
# A helm that was built from its module knows of no version of Kubernetes.
"$helm" template stoic deploy/helm/stoic --namespace stoic --kube-version 1.29.0 \
  --set auth.existingSecret=stoic-admin | sed 's/ *$//' > "$made"
cat "$made" > deploy/kubernetes/gateway.yaml
