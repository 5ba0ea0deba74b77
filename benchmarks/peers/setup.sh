#!/usr/bin/env bash
# An environment of its own for each peer: benchmarks/peers/setup.sh [FOLDER [PEER ...]]
# FOLDER is build/peers unless given; PYTHON says which Python makes them (3.11 or newer).
# Each brings a torch of about 6 GB; `hardlink FOLDER` (util-linux) lets them share one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/peers}
shift $(($# > 0))
(($#)) || set -- tiatoolbox lazyslide wsi-tile-processor
for peer; do
  "${PYTHON:-python3}" -m venv "$folder/$peer"
  "$folder/$peer/bin/pip" install --quiet --requirement "$here/requirements-$peer.txt"
  "$folder/$peer/bin/pip" list --format=freeze | grep -iE "^($peer|torch)=="
done
