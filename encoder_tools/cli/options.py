"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import click

from geosam_es.errors import OutputError
from geosam_es.store.raster_name import RasterPath, raster_path
from geosam_es.store.remote import StorePlace, is_address, without_query

from ..remote import open_remote

__all__ = ["OWN_STORE", "PATH", "RASTER", "STORE", "Number", "StorePlace", "json_option", "threads_option"]

PATH = click.Path(path_type=Path)


class _StoreType(click.Path):
    """A store in a folder or, if it is only read, on a web server."""

    def __init__(self, is_changed: bool) -> None:
        super().__init__(path_type=Path)
        self._is_changed = is_changed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path or a `RemoteStore`."""
        if not (isinstance(value, str) and is_address(value)):
            if re.match(r"[A-Za-z][\w+.-]+:/", str(value)) and not os.path.lexists(value):
                raise OutputError(
                    f"{value} is not a folder or the address of a store",
                    "write an address as https://HOST/NAME.embeddings.zarr, with %20 for a space",
                )
            return super().convert(value, param, ctx)
        if self._is_changed:
            raise OutputError(
                f"{without_query(value)} is on a server, and stores are only read from there",
                "run this command where the store lies, or on a copy of all of it",
            )
        return open_remote(value)


STORE, OWN_STORE = _StoreType(is_changed=False), _StoreType(is_changed=True)


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
