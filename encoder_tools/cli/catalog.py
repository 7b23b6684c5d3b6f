"""``geosam-es catalog``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geosam_es.errors import GeoSamError, StoreError, VectorError
from geosam_es.store import StoreReader
from geosam_es.store.files import is_temporary
from geosam_es.store.layout import SUFFIX, is_store

from .. import object_store
from ..crs import is_local, parse_crs, reproject_polygons, same_crs, store_crs
from ..remote import Target, opened
from ..vector_formats import FORMATS
from ..vector_output import check_output, write_vector
from .group import EXIT_FAULT
from .options import PATH, PLACE, counted, json_option

__all__ = ["catalog_command", "common_crs", "footprint_in", "footprint_of", "stores_in"]

_SIDES = 16
"""Parts of a side of a footprint, which may be curved in another CRS."""


@click.command("catalog", short_help="Write a catalogue of the stores in FOLDERS.")
@click.argument("folders", nargs=-1, required=True, type=PLACE)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--crs", help="CRS of the footprints. Default: that of the stores, or EPSG:4326 if they have several.")
@click.option("--overwrite", is_flag=True, help="Replace an existing catalogue.")
@json_option
def catalog_command(folders: Sequence[Target], output: Path, crs: str | None, overwrite: bool, as_json: bool) -> None:
    """Write a catalogue of the stores in FOLDERS: their footprints as a vector layer.

    The fields are the paths of store and raster, relative to the folder of the catalogue; the state; the numbers of
    tiles that are done and of all; the model; and the date. A project in QGIS that shows the layer needs no other: a
    click inside a footprint is answered by its store. `geosam-es encode` takes a catalogue as a list of images.

    A folder may lie in object storage (s3://BUCKET/FOLDER). A store on a web server may be given by its address.

    \b
    Example:
      geosam-es catalog stores/ -o stores/catalog.gpkg
    """
    found = sorted({store for folder in folders for store in stores_in(folder)}, key=str)
    if not found:
        raise StoreError(f"{', '.join(map(str, folders))} has no stores", "name the folder that encode wrote them to")
    entries = list(filter(None, (_entry(store, output.absolute().parent) for store in found)))
    if not entries:
        raise StoreError("none of the stores can be read", "encode again")
    target = parse_crs(crs) if crs else common_crs([system for _, _, system in entries])
    check_output(output, target, overwrite=overwrite, append=None)
    placed = list(filter(None, (_placed(*entry, target) for entry in entries)))
    if not placed:
        raise StoreError(f"none of the stores has a place in {target.name}", "give another --crs")
    rows, projected = zip(*placed)
    write_vector(output, projected, {name: np.array([row[name] for row in rows]) for name in rows[0]}, target)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        complete = sum(row["state"] == "complete" for row in rows)
        click.echo(f"{output}: {counted(len(rows), 'store')}, {complete} complete")
    if len(rows) < len(found):
        sys.exit(EXIT_FAULT)


def stores_in(folder: Target) -> Iterator[Target]:
    """Return the stores in a folder and its subfolders, also linked ones, or the folder itself if it is one.

    Those that another program is making or removing are left out.
    """
    if isinstance(folder, str):
        # A web server cannot be asked what it has.
        yield from object_store.stores_in(folder) if folder.startswith("s3://") else [folder]
        return
    if not folder.exists():
        raise StoreError(f"{folder} does not exist", "check the path")
    seen = set()
    for place, folders, _ in os.walk(folder, followlinks=True, onerror=_refuse):
        own = os.path.realpath(place)
        is_one = place.endswith(SUFFIX) or is_store(Path(place))
        if own not in seen and is_one:
            yield Path(place)
        # Links may go in a circle.
        folders[:] = [] if is_one or own in seen else [name for name in folders if not is_temporary(name)]
        seen.add(own)


def _refuse(error: OSError) -> None:
    """Refuse a folder that cannot be read, unless it was removed meanwhile."""
    if not isinstance(error, FileNotFoundError):
        raise StoreError(f"{error.filename} cannot be read ({error.strerror})", "check its permissions") from error


def _entry(store: Target, folder: Path) -> tuple[dict[str, Any], shapely.Polygon, pyproj.CRS] | None:
    """Return the fields, the footprint and its CRS of a store; None if it cannot be read, after saying so."""
    try:
        with opened(store) as place:
            reader = StoreReader(place)
            return _row(reader, store, folder), footprint_of(reader), store_crs(reader)
    except GeoSamError as error:
        click.echo(f"Error: {error.user_message}", err=True)
        return None


def _placed(
    row: dict[str, Any], footprint: shapely.Polygon, crs: pyproj.CRS, target: pyproj.CRS
) -> tuple[dict[str, Any], shapely.Polygon] | None:
    """Return the fields and the footprint in another CRS; None if it has no place there, after saying so."""
    try:
        return row, footprint_in(footprint, crs, target)
    except GeoSamError as error:
        click.echo(f"Error: {row['store']}: {error.user_message}", err=True)
        return None


def _row(reader: StoreReader, store: Target, folder: Path) -> dict[str, Any]:
    metadata, root = reader.metadata, reader.root.absolute()
    raster = root.parent / (metadata.raster.path or metadata.raster.file_name)
    total = len(reader.pyramid)
    if isinstance(store, str) and store.startswith("s3://"):
        # Rows are listed, which is faster than asking for each tile.
        writer = object_store.ObjectWriter(store, metadata)
        missing = total - sum(map(writer.is_done, reader.pyramid))
    else:
        missing = sum(count.missing for count in reader.counts() if count.level >= 0)
    is_here = reader.remote is None
    return {
        "store": _relative(root, folder) if is_here else str(store),
        "raster": _relative(raster, folder) if is_here and raster.exists() else metadata.raster.file_name,
        "state": "incomplete" if missing else "complete",
        "tiles_done": total - missing,
        "tiles": total,
        "model": str(metadata.model["name"]),
        "date": metadata.created,
    }


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        # On another drive of Windows.
        return path.as_posix()


def footprint_of(reader: StoreReader) -> shapely.Polygon:
    """Return the outline of the raster of a store, in its CRS."""
    raster = reader.metadata.raster
    box = shapely.box(0, 0, raster.width, raster.height)
    sides = shapely.segmentize(box, max(raster.width, raster.height) / _SIDES)
    return raster.transform.apply_geometry(sides)


def common_crs(systems: Sequence[pyproj.CRS]) -> pyproj.CRS:
    """Return the CRS if it is one, or WGS 84. Local ones, which have no place on the globe, count if all are local."""
    first, *others = [crs for crs in systems if not is_local(crs)] or systems
    is_one = all(same_crs(first.to_wkt(), other.to_wkt()) for other in others)
    return first if is_one else pyproj.CRS("EPSG:4326")


def footprint_in(footprint: shapely.Polygon, source: pyproj.CRS, target: pyproj.CRS) -> shapely.Polygon:
    """Return an outline in another CRS.

    Raises
    ------
    VectorError
        If it has no place there.
    """
    if same_crs(source.to_wkt(), target.to_wkt()):
        return shapely.simplify(footprint, 0.0)
    one: NDArray[np.object_] = np.array([footprint], dtype=object)
    projected, is_defined = reproject_polygons(one, source, target)
    if not is_defined[0]:
        raise VectorError(f"its raster has no place in {target.name}", "check its CRS")
    outline: shapely.Polygon = projected[0]
    return outline
