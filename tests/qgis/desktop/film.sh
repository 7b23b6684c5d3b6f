#!/usr/bin/env bash
# A base map becomes a coverage in the real QGIS window, a picture for each step; then a check outside QGIS:
#   tests/qgis/desktop/film.sh FOLDER ZIP DATA [QGIS OPTIONS, such as --lang es]
# SCRIPT=everything makes the coverage of nothing but the image instead; SCRIPT=by_clicks draws its fields by clicks alone.
# DATA is the folder of labelled imagery. Pictures, report.json and the layer go to FOLDER. Needs qgis, xvfb, xdotool,
# openbox, and the environments that `make test` creates.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$(realpath -m "$1") zip=$2 data=$3 script=${SCRIPT:-film}
shift 3
if [ -n "$(ls -A "$folder" 2>/dev/null)" ] && ! [ -e "$folder/report.json" ]; then
  echo "$folder holds other files: name a new folder" >&2
  exit 2
fi
rm -rf "$folder"
.venv/bin/python -m tests.qgis.desktop.prepare_film "$folder" "$data"
profiles=$(mktemp -d)
trap 'rm -rf "$profiles"' EXIT
home=$profiles/profiles/default
mkdir -p "$home/python/plugins" "$home/QGIS" "$profiles/run"
chmod 700 "$profiles/run"
.venv/bin/python -m zipfile -e "$zip" "$home/python/plugins"
printf '[qgis]\ncheckVersion=false\nshowTips=false\naskToSaveMemoryLayers=false\n[PythonPlugins]\ngeosam_es=true\n' \
  >"$home/QGIS/QGIS3.ini"
# shellcheck disable=SC2016
PYTHONPATH=$(echo "$PWD"/.venv-qgis/lib/python3*/site-packages) XDG_RUNTIME_DIR="$profiles/run" \
  GEOSAM_ES_DESKTOP="$folder" GEOSAM_ES_TESTS="$PWD/tests/qgis/desktop" timeout "${QGIS_SECONDS:-600}" \
  xvfb-run -a -s "-screen 0 1280x800x24" bash -c '
    openbox & exec qgis --nologo --noversioncheck --profiles-path "$0" --code "$@"' \
  "$profiles" "$PWD/tests/qgis/desktop/$script.py" "$@" || true
cat "$folder/report.json"
grep -q '"done": true' "$folder/report.json"
options=(--tolerance 1 --min-area-m2 200)
# Fields of one class may touch in the others.
[[ $script != film ]] || options+=(--class class)
.venv/bin/python -m encoder_tools.cli check "$folder/$script.gpkg" "${options[@]}"
