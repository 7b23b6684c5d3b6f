"""Thousands of clicks in the real QGIS window, run by ``run.sh`` with SCRIPT=soak and QGIS_SECONDS=1800.

``report.json`` compares the first and the last tenth: time from the press to the painted polygon, memory, open files.
GEOSAM_ES_CLICKS sets the number of clicks.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from window import FOLDER, Desktop, start, wait

CLICKS = int(os.environ.get("GEOSAM_ES_CLICKS", "2000"))
CLICKS_PER_VIEW = 20
VIEW_M = 200.0


def state() -> tuple[float, int]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resident, len(list(Path("/proc/self/fd").iterdir()))


def run() -> dict[str, Any]:
    desktop, rng = Desktop(), random.Random(0)
    raster = QgsRasterLayer(str(FOLDER / "ortho.tif"), "ortho")
    QgsProject.instance().setCrs(raster.crs())
    QgsProject.instance().addMapLayer(raster)
    next(a for a in iface.mapToolActionGroup().actions() if a.objectName() == "geosamEsTool").trigger()
    wait(lambda: desktop.controller.store is not None)
    extent = raster.extent().buffered(-VIEW_M)
    x = y = 0.0
    states = []
    for number in range(CLICKS):
        if number % CLICKS_PER_VIEW == 0:
            x = rng.uniform(extent.xMinimum(), extent.xMaximum())
            y = rng.uniform(extent.yMinimum(), extent.yMaximum())
            desktop.zoom(x, y, VIEW_M)
        desktop.click(x + rng.uniform(-0.3, 0.3) * VIEW_M, y + rng.uniform(-0.2, 0.2) * VIEW_M)
        desktop.key(Qt.Key.Key_Escape)
        if (number + 1) % (CLICKS // 10) == 0:
            states.append(state())
    desktop.picture("soak.png")
    share = CLICKS // 10
    p99 = [round(sorted(part)[int(len(part) * 0.99)], 1) for part in (desktop.times[:share], desktop.times[-share:])]
    (first, files), (last, files_end) = states[0], states[-1]
    return {
        "clicks": CLICKS,
        "p99_ms": p99,
        "resident_mib": [round(first, 1), round(last, 1)],
        "open_files": [files, files_end],
        "equal": last < 1.1 * first and files_end <= files + 2,
    }


start(run)
