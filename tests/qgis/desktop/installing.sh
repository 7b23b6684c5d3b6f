#!/usr/bin/env bash
# Install the plugin's zip without network and its packages from a folder of wheels, in the real QGIS window and a fresh
# profile, then draw a polygon:   tests/qgis/desktop/installing.sh FOLDER ZIP WHEELS [QGIS OPTIONS]
# Screenshots and report.json go to FOLDER. Needs qgis, xvfb, xdotool, and FOLDER prepared by run.sh or prepare.py.
set -euo pipefail
folder=$(realpath -m "$1") zip=$2 wheels=$3
shift 3
profiles=$(mktemp -d)
trap 'rm -rf "$profiles"' EXIT
mkdir -p "$profiles/profiles/default/QGIS" "$folder/wheels"
printf '[qgis]\ncheckVersion=false\nshowTips=false\n' >"$profiles/profiles/default/QGIS/QGIS3.ini"
cp "$zip" "$folder/geosam_es.zip"
cp "$wheels"/* "$folder/wheels/"
export XDG_RUNTIME_DIR=$profiles/run GEOSAM_ES_DESKTOP=$folder
mkdir -m 700 "$XDG_RUNTIME_DIR"
rm -rf "$folder/report.json" "$folder/ortho.embeddings.zarr"
env -u PYTHONPATH timeout "${QGIS_SECONDS:-240}" xvfb-run -a -s "-screen 0 1280x800x24" \
  qgis --nologo --noversioncheck --profiles-path "$profiles" --code "$(dirname "$0")/installing.py" "$@"
cat "$folder/report.json"
grep -q '"beside": true' "$folder/report.json"
