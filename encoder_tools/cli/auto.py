"""``geosam-es auto``."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Union

import click
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.grid import FINEST_LEVEL, Tile
from geosam_es.errors import OutputError, VectorError
from geosam_es.inference.automatic import AutomaticMask, automatic_masks, default_options, rows_of_tiles
from geosam_es.inference.automatic_coverage import CoverageOptions, CoveragePolygon, automatic_coverage
from geosam_es.inference.batch import middle_pixel_m
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import open_segmenter
from geosam_es.store.files import write_text
from geosam_es.store.reader import TileState

from ..crs import AreaMeter, check_transform, parse_crs, reproject, reproject_polygons, store_crs
from ..evaluation.pictures import find_raster, open_raster
from ..progress import Progress
from ..vector_output import FORMATS, check_output, default_crs, field_names, field_notes, write_vector
from .options import PATH, Number
from .segment import output_options, vector_layer

__all__ = ["auto_command"]

_TOGETHER = 1000
"""Polygons written at a time."""

_Found = Union[AutomaticMask, CoveragePolygon]
_Part = tuple[list[BaseGeometry], dict[str, NDArray[Any]]]


@click.command("auto")
@click.argument("store", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--aoi", type=PATH, help="Vector layer; only points of the grid in it are used.")
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.IntRange(min=FINEST_LEVEL),
    help="Use this pyramid level; may be repeated. Default: 0 and all coarser ones.",
)
@click.option("--points-per-side", type=click.IntRange(1, 256), help="Points along the side of a tile.")
@click.option("--pred-iou-thresh", type=Number(0, 1), help="Drop masks with a lower predicted IoU.")
@click.option("--stability-score-thresh", type=Number(0, 1), help="Drop masks with a lower stability score.")
@click.option("--stability-score-offset", type=Number(min=0), help="Logit for the stability score.")
@click.option("--box-nms-thresh", type=Number(0, 1), help="IoU of boxes above which masks of a tile are doubles.")
@click.option("--min-mask-region-area", type=Number(min=0), help="Remove parts and holes with fewer pixels.")
@click.option("--simplify", type=Number(min=0), default=1.0, show_default=True, help="Tolerance in pixels.")
@click.option("--min-area-m2", type=Number(min=0), default=0.0, help="Leave out smaller masks.")
@click.option(
    "--coverage",
    is_flag=True,
    help="Every pixel with data in exactly one polygon, with shared borders. --min-area-m2 is the minimum mapping unit "
    "(default: 400 pixels): what is smaller joins a neighbour.",
)
@click.option("--out-crs", help="CRS of the output. Default: that of the raster, but EPSG:4326 for .kml and .geojsonl.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run with the same options.")
@output_options
def auto_command(
    store: Path,
    output: Path,
    aoi: Path | None,
    levels: Sequence[int],
    simplify: float,
    min_area_m2: float,
    coverage: bool,
    out_crs: str | None,
    resume: bool,
    threads: int | None,
    overwrite: bool,
    append: bool,
    out_layer: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Draw all objects in STORE, without prompts.

    A grid of points prompts each tile on each level. Of the masks, those with a good predicted IoU and stability score
    are kept, without doubles. They may overlap. The options have the names and the meaning of segment-anything's
    SamAutomaticMaskGenerator; their defaults suit the model of the store.

    \b
    Example:
      geosam-es auto ortho.embeddings.zarr -o objects.gpkg
      geosam-es auto ortho.embeddings.zarr -o objects.gpkg --aoi parish.gpkg --level 0 --level 1
      geosam-es auto ortho.embeddings.zarr -o habitats.gpkg --coverage --min-area-m2 200
    """
    started = time.perf_counter()
    segmenter = open_segmenter(store, threads)
    raster_crs = store_crs(segmenter.reader)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or raster_crs
    check_transform(raster_crs, target_crs)
    writer = _Writer(segmenter, raster_crs, target_crs, simplify, min_area_m2, coverage)
    none = writer.part([])[1]
    names = field_names(output, none)
    blank = {names[name]: np.full(1, "" if item.dtype == object else 0, item.dtype) for name, item in none.items()}
    as_texts = check_output(output, target_crs, blank, overwrite=overwrite, append=append, layer=out_layer)
    for note in field_notes(output, names, as_texts):
        click.echo(f"Note: {note}", err=True)
    area = None if aoi is None else _area(aoi, segmenter, raster_crs)
    options = replace(default_options(segmenter), **{key: value for key, value in given.items() if value is not None})
    chosen = sorted(set(levels)) or None
    _note_missing(segmenter, [tile for row in rows_of_tiles(segmenter, chosen, area) for tile in row])
    raster, model = segmenter.reader.metadata.raster, segmenter.reader.decoder
    area_key = 0 if area is None else zlib.crc32(shapely.to_wkb(area))
    rows = _RowFolder(output, [raster.fingerprint, model.name, chosen, area_key, asdict(options)], resume)
    with Progress(output.name, "tiles") as progress:
        masks = automatic_masks(segmenter, options, chosen, area, progress, rows)
        found: Iterator[_Found] = masks
        if coverage:
            found = _coverage(segmenter, masks, area, chosen, min_area_m2, simplify)
        parts = ((made, {names[key]: item for key, item in fields.items()}) for made, fields in writer.parts(found))
        first = next(parts, ([], {name: item[:0] for name, item in blank.items()}))
        write_vector(output, *first, target_crs, append=append, layer=out_layer, more=parts)
    rows.remove()
    seconds = time.perf_counter() - started
    if as_json:
        click.echo(json.dumps({"output": str(output), "polygons": writer.count, "seconds": round(seconds, 3)}))
    else:
        click.echo(f"{output}: {writer.count} polygon(s) in {seconds:.1f} s")


def _coverage(
    segmenter: Segmenter,
    masks: Iterator[AutomaticMask],
    area: BaseGeometry | None,
    levels: Sequence[int] | None,
    min_area_m2: float,
    simplify: float,
) -> Iterator[CoveragePolygon]:
    path = find_raster(segmenter.reader)
    raster = None if path is None else open_raster(segmenter.reader, path)
    if raster is None:
        click.echo("Note: the raster is not beside the store, so only tiles without any data are left out", err=True)
    options = CoverageOptions(simplify_tolerance=simplify * CoverageOptions.simplify_tolerance)
    if min_area_m2:
        pixel_m = middle_pixel_m(segmenter, AreaMeter(store_crs(segmenter.reader)))
        options = replace(options, min_area=min_area_m2 / pixel_m**2)
    has_data = None if raster is None else raster.read_valid
    return automatic_coverage(segmenter, masks, options, area, has_data, min(levels or [0]))


def _area(path: Path, segmenter: Segmenter, raster_crs: pyproj.CRS) -> BaseGeometry:
    """Read an area of interest into native pixels."""
    layer = vector_layer(path, None, raster_crs)
    area = shapely.union_all(shapely.make_valid(reproject(layer.geometries, layer.crs or raster_crs, raster_crs)))
    if not area.intersects(shapely.box(*segmenter.map_bounds)):
        raise VectorError(f"{path} lies outside the raster of {segmenter.reader.root}", "check the layer and its CRS")
    return segmenter.reader.metadata.raster.transform.inverse().apply_geometry(area)


def _note_missing(segmenter: Segmenter, tiles: Sequence[Tile]) -> None:
    missing = sum(segmenter.reader.state(tile) is TileState.MISSING for tile in tiles)
    if missing:
        click.echo(
            f"Note: {missing} of {len(tiles)} tiles are not encoded and are left out; encode them with: geosam-es "
            "encode IMAGE --resume",
            err=True,
        )


class _Writer:
    """Turns masks into features of the output, and counts them."""

    def __init__(
        self,
        segmenter: Segmenter,
        crs: pyproj.CRS,
        target_crs: pyproj.CRS,
        simplify: float,
        min_area_m2: float,
        is_coverage: bool,
    ) -> None:
        self.count = 0
        self._transform = segmenter.reader.metadata.raster.transform
        self._model = str(segmenter.reader.metadata.model["name"])
        self._crs, self._target_crs = crs, target_crs
        self._meter = AreaMeter(crs)
        self._simplify, self._min_area_m2 = simplify, 0.0 if is_coverage else min_area_m2
        self._is_coverage = is_coverage

    def parts(self, masks: Iterator[_Found]) -> Iterator[_Part]:
        """Yield the features of many masks in parts."""
        for first in masks:
            yield self.part([first, *islice(masks, _TOGETHER - 1)])

    def part(self, masks: Sequence[_Found]) -> _Part:
        """Return the polygons and fields of masks, without those too small or outside the CRS of the output."""
        polygons = np.array([mask.on_map(self._transform, self._simplify) for mask in masks], dtype=object)
        points = shapely.points(self._transform.apply_array(np.array([m.point for m in masks]).reshape(-1, 2)))
        projected, is_kept = reproject_polygons(polygons, self._crs, self._target_crs)
        areas = np.array([self._meter.area_m2(polygon) for polygon in polygons])
        is_kept &= (areas >= self._min_area_m2) & (areas > 0)
        xy = shapely.get_coordinates(reproject(points, self._crs, self._target_crs, may_fail=True))
        kept = [mask for mask, keep in zip(masks, is_kept) if keep]
        self.count += len(kept)
        group = {"group": np.array([item.group for item in kept], dtype=np.int32)} if self._is_coverage else {}
        return list(projected[is_kept]), {
            "predicted_iou": np.array([mask.predicted_iou for mask in kept], dtype=np.float64),
            "stability_score": np.array([mask.stability_score for mask in kept], dtype=np.float64),
            "level": np.array([mask.level for mask in kept], dtype=np.int32),
            "area_m2": areas[is_kept],
            "point_x": xy[is_kept, 0],
            "point_y": xy[is_kept, 1],
            "model": np.array([self._model] * len(kept), dtype=object),
            **group,
        }


class _RowFolder:
    """Masks of the rows of tiles done so far, in a folder beside the output; see `RowCache`."""

    def __init__(self, output: Path, settings: Sequence[Any], resume: bool) -> None:
        self._path = output.with_name(f"{output.name}.rows")
        wanted, found = json.dumps(settings), self._path / "settings.json"
        if resume and found.is_file() and found.read_text(encoding="utf-8") != wanted:
            raise OutputError(f"{output} was begun with other options", "give the same ones, or leave out --resume")
        if not resume:
            self.remove()
        self._path.mkdir(exist_ok=True)
        write_text(found, wanted)

    def read(self, level: int, row: int) -> list[AutomaticMask] | None:
        """Return the masks of a row, or None if it was not written."""
        path = self._file(level, row)
        if not path.is_file():
            return None
        return [
            AutomaticMask(shapely.from_wkb(polygon), iou, stability, (x, y), Tile(*tile), *rest)
            for polygon, iou, stability, (x, y), tile, *rest in json.loads(path.read_text(encoding="utf-8"))
        ]

    def write(self, level: int, row: int, masks: Sequence[AutomaticMask]) -> None:
        """Keep the masks of a row."""
        values = [(shapely.to_wkb(mask.polygon, hex=True), *mask[1:]) for mask in masks]
        write_text(self._file(level, row), json.dumps(values))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _file(self, level: int, row: int) -> Path:
        return self._path / f"{level}_{row}.json"
