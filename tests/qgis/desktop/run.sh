#!/usr/bin/env bash
# Test the plugin's zip in the real QGIS window, on a virtual screen and in a fresh profile:
#   tests/qgis/desktop/run.sh FOLDER [ZIP]   (SCRIPT=decoders: compare two decoders; SCRIPT=gestures: time each gesture;
#   SCRIPT=soak QGIS_SECONDS=1800: thousands of clicks)
# Screenshots and report.json go to FOLDER. Needs qgis, xvfb, and the environments that `make test` creates. For another
# QGIS, RUN_IN is put before the command, such as "chroot DIR", and PACKAGES is a folder with the plugin's packages;
# FOLDER, PACKAGES and this folder must have the same paths there.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$(realpath -m "$1") zip=${2:-dist/geosam_es.zip}
[ -f "$folder/ortho.tif" ] || .venv/bin/python -m tests.qgis.desktop.prepare "$folder"
.venv-qgis/bin/python tests/qgis/desktop/geometry.py >"$folder/geometry.json"
[ $# -gt 1 ] || make -s zip
profiles=$folder/profiles
rm -rf "$profiles"
trap 'rm -rf "$profiles"' EXIT
home=$profiles/profiles/default
mkdir -p "$home/python/plugins" "$home/QGIS"
.venv/bin/python -m zipfile -e "$zip" "$home/python/plugins"
printf '[qgis]\ncheckVersion=false\nshowTips=false\naskToSaveMemoryLayers=false\n[PythonPlugins]\ngeosam_es=true\n' \
  >"$home/QGIS/QGIS3.ini"
mkdir -m 700 "$profiles/run"
rm -f "$folder"/polygons.gpkg* "$folder/report.json"
tests=$PWD/tests/qgis/desktop
read -ra run_in <<<"${RUN_IN:-}"
"${run_in[@]}" env PYTHONPATH="${PACKAGES:-$(echo "$PWD"/.venv-qgis/lib/python3*/site-packages)}" \
  XDG_RUNTIME_DIR="$profiles/run" GEOSAM_ES_DESKTOP="$folder" GEOSAM_ES_TESTS="$tests" \
  timeout "${QGIS_SECONDS:-180}" xvfb-run -a -s "-screen 0 1280x800x24" \
  qgis --nologo --noversioncheck --profiles-path "$profiles" --code "$tests/${SCRIPT:-end_to_end}.py"
cat "$folder/report.json"
grep -q '"equal": true' "$folder/report.json"
