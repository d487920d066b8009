#!/usr/bin/env bash
# Prints the path of a `helm`: the one of this machine, else one that is built from its Go module, pinned, and kept
# in the cache. Fails where there is neither.
set -euo pipefail
version=v3.22.0
if command -v helm >/dev/null; then command -v helm; exit; fi
folder=${XDG_CACHE_HOME:-$HOME/.cache}/stoic/helm-$version
if [ ! -x "$folder/helm" ]; then
  command -v go >/dev/null || { echo "no helm, and no Go to build it with" >&2; exit 1; }
  mkdir -p "$folder"
  GOBIN=$folder go install -trimpath -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@$version" >&2
fi
echo "$folder/helm"
