"""Every field of `everything.py` drawn by clicks, to compare; run by ``SCRIPT=by_clicks film.sh``."""

from __future__ import annotations

import os
import sys

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from everything import Everything
from hand import start


class ByClicks(Everything):
    NAME = "by_clicks"

    def run(self) -> None:
        self.open()
        self.coverage_mode()
        with self.stage("by clicks") as stage:
            stage["drawn"] = sum(self.draw_field(field) for field in self.fields)
        self.save()
        self.whole()
        self.picture("10_by_clicks")


start(ByClicks)
