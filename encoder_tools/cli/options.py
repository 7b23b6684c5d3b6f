"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from geosam_es.store.raster_name import RasterPath, raster_path

__all__ = ["PATH", "RASTER", "Number", "json_option", "threads_option"]

PATH = click.Path(path_type=Path)


class _RasterType(click.Path):
    """A file, or any other name that GDAL opens."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path or a `GdalName`."""
        if not value:
            raise click.BadParameter("the name of an image is empty")
        converted: RasterPath = raster_path(str(super().convert(value, param, ctx)))
        return converted


RASTER = _RasterType()


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all cores.")
