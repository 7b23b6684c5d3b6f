#!/usr/bin/env bash
# A photo-interpreter's first day in the real QGIS window, with the X server's mouse and keys, in a fresh profile:
#   tests/qgis/desktop/day.sh FOLDER BUNDLE [QGIS OPTIONS]
# BUNDLE is a zip that `make bundle` wrote. Screenshots, report.json and the layer go to FOLDER. Needs qgis, xvfb,
# xdotool, openbox, and the environment of `make test`. RUN_IN is put before the commands that need QGIS, such as
# "chroot DIR"; FOLDER and this folder must have the same paths there.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$(realpath -m "$1") bundle=$2
shift 2
[ -f "$folder/fields.json" ] || .venv/bin/python -m tests.qgis.desktop.prepare_day "$folder"
profiles=$folder/profiles
rm -rf "$profiles" "$folder"/{report,expected}.json "$folder"/*.png "$folder"/*.gpkg* "$folder"/*.qgz "$folder"/*.zarr
mkdir -p "$profiles/profiles/default/QGIS" "$profiles/run"
chmod 700 "$profiles/run"
printf '[qgis]\ncheckVersion=false\nshowTips=false\naskToSaveMemoryLayers=false\n%s' "${QGIS_SETTINGS:-}" \
  >"$profiles/profiles/default/QGIS/QGIS3.ini"
cp "$bundle" "$folder/bundle.zip"
.venv/bin/python -m zipfile -e "$bundle" "$folder/unpacked"
.venv/bin/python -m tests.qgis.online_server "$folder/served.tif" >"$folder/server.url" &
server=$!
trap 'kill $server; rm -rf "$profiles"' EXIT
until [ -s "$folder/server.url" ] || ! kill -0 $server; do sleep 0.1; done
read -ra run_in <<<"${RUN_IN:-}"
# shellcheck disable=SC2016
"${run_in[@]}" env -u PYTHONPATH XDG_RUNTIME_DIR="$profiles/run" GEOSAM_ES_DESKTOP="$folder" GEOSAM_ES_TESTS="$PWD/tests/qgis/desktop" \
  GEOSAM_ES_SERVER="$(cat "$folder/server.url")" timeout "${QGIS_SECONDS:-420}" \
  xvfb-run -a -s "-screen 0 1280x800x24" bash -c '
    openbox & exec qgis --nologo --noversioncheck --profiles-path "$0" --code "$@"' \
  "$profiles" "$PWD/tests/qgis/desktop/day.py" "$@" || true
cat "$folder/report.json"
.venv/bin/python -m tests.qgis.desktop.check_day "$folder"
