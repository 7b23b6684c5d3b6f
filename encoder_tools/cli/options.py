"""Options, checks and notes that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import pyproj

from geosam_es.core.grid import Tile
from geosam_es.errors import OutputError
from geosam_es.store.raster_name import RasterPath, raster_path
from geosam_es.store.reader import StoreReader, TileState
from geosam_es.store.remote import StorePlace, is_address, without_query

from ..remote import open_remote
from ..vector import file_and_layer
from ..vector_output import keeps_layer

__all__ = [
    "OWN_STORE",
    "PATH",
    "PLACE",
    "RASTER",
    "STORE",
    "TARGET",
    "Number",
    "StorePlace",
    "counted",
    "json_option",
    "note_missing",
    "note_outside",
    "refuse_own_prompts",
    "threads_option",
]

PATH = click.Path(path_type=Path)


class _StoreType(click.Path):
    """A store in a folder or, if it is only read, on a server.

    Parameters
    ----------
    is_changed : bool
    kept : tuple of str
        Beginnings of addresses that are returned as they are.
    """

    def __init__(self, is_changed: bool, kept: tuple[str, ...] = ()) -> None:
        super().__init__(path_type=Path)
        self._is_changed = is_changed
        self._kept = kept

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, a `RemoteStore` or an address."""
        if str(value).startswith(self._kept) and is_address(f"{str(value).rstrip('/')}/a"):
            return str(value).rstrip("/")
        if not (isinstance(value, str) and is_address(value)):
            if re.match(r"[A-Za-z][\w+.-]+:/", str(value)) and not os.path.lexists(value):
                raise OutputError(
                    f"{value} is not a folder or the address of a store",
                    "write an address as https://HOST/NAME.embeddings.zarr, with %20 for a space, or as "
                    "s3://BUCKET/NAME.embeddings.zarr",
                )
            return super().convert(value, param, ctx)
        if self._is_changed:
            raise OutputError(
                f"{without_query(value)} is on a server, and stores are only read from there",
                "run this command where the store lies, or on a copy of all of it",
            )
        return open_remote(value)


STORE, OWN_STORE = _StoreType(is_changed=False), _StoreType(is_changed=True)
TARGET = _StoreType(is_changed=True, kept=("s3://",))
PLACE = _StoreType(is_changed=False, kept=("s3://", "http://", "https://"))


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


def refuse_own_prompts(
    prompts: Path | None, output: Path | None, name: str = "the file of the prompts", layer: str = ""
) -> None:
    """Refuse to write over the prompts, or over a file that belongs to them, such as a part of a Shapefile.

    Another ``layer`` of the same GeoPackage may be written.
    """
    if prompts is None or output is None:
        return
    parts = {".shp", ".dbf", ".shx"}
    try:
        file, own_layer = file_and_layer(prompts)
        first, second = (Path(os.path.realpath(path)) for path in (file, output))
        is_part = {first.suffix.lower(), second.suffix.lower()} <= parts
        is_same = (
            (is_part and first.with_suffix("") == second.with_suffix("")) or first == second or first.samefile(second)
        )
    except OSError:
        # One of them does not exist, which is reported elsewhere if it should.
        return
    if is_same and not (layer and keeps_layer(output, own_layer, layer)):
        raise OutputError(f"{output} is {name}", "choose another name with -o")


def note_missing(reader: StoreReader, tiles: Iterable[Tile]) -> int:
    """Return how many tiles are not encoded, and print a note if there are any."""
    states = [(tile, reader.state(tile)) for tile in tiles]
    missing = [tile for tile, state in states if state is TileState.MISSING]
    if missing:
        finest = min(tile.level for tile in missing)
        remedy = "geosam-es encode IMAGE --resume" + (f" --finest {finest}" if finest < 0 else "")
        text = f"{len(missing)} of {len(states)} tiles are not encoded and are left out; encode them with: {remedy}"
        click.echo(f"Note: {text}", err=True)
    return len(missing)


def counted(number: int, noun: str) -> str:
    """Return a count and its noun, in the plural where needed."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def note_outside(count: int, source: Path, crs: pyproj.CRS) -> None:
    """Print a note on how many polygons of a layer lie outside the area of a CRS."""
    if count:
        text = f"{counted(count, 'polygon')} of {source} outside {crs.name} {'is' if count == 1 else 'are'} left out"
        click.echo(f"Note: {text}", err=True)
