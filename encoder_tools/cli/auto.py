"""``geosam-es auto``."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.grid import FINEST_LEVEL, Tile
from geosam_es.core.prompts import Bounds
from geosam_es.errors import OutputError, StoreError, VectorError
from geosam_es.inference.automatic import AutomaticMask, automatic_masks, default_options, rows_of_tiles
from geosam_es.inference.automatic_coverage import CoverageOptions, CoveragePolygon, automatic_coverage
from geosam_es.inference.batch import middle_pixel_m
from geosam_es.inference.segmenter import Segmenter
from geosam_es.store.decoder_files import prefixed_sha256
from geosam_es.store.files import write_text

from ..crs import ASSIGN_CRS, AreaMeter, area_on, check_degrees, parse_crs, reproject, reproject_polygons, store_crs
from ..distributed import Cluster
from ..evaluation.pictures import open_raster, raster_to_show
from ..progress import Progress
from ..segment import check_place
from ..vector_formats import FORMATS, default_crs, field_names, field_notes
from ..vector_output import check_output, write_vector
from .catalog import footprint_of
from .group import user_error
from .options import PATH, STORE, Number, StorePlace, counted, note_missing, note_outside, refuse_own_prompts
from .segment import output_options, vector_layer
from .sheets import RASTER_FIELD, Sheet, Sheets, each, stores_progress, worker_options

__all__ = ["auto_command"]

_LOCK = ".lock"
_SETTINGS = "settings.json"
_TOGETHER = 1000
"""Polygons written at a time."""

_Part = tuple[list[BaseGeometry], dict[str, NDArray[Any]]]
_Drawn = tuple[list[BaseGeometry], list[NDArray[Any]], int]
"""Polygons, their columns, and how many polygons the CRS of the output lacks."""

_BLANK: dict[str, NDArray[Any]] = {
    **dict.fromkeys(("predicted_iou", "stability_score"), np.zeros(1)),
    "level": np.zeros(1, np.int32),
    **dict.fromkeys(("area_m2", "point_x", "point_y"), np.zeros(1)),
    "model": np.array([""], dtype=object),
}


@click.command("auto")
@click.argument("store", type=STORE)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--aoi", type=PATH, help="Vector layer; only points of the grid in it are used.")
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.IntRange(min=FINEST_LEVEL),
    help="Pyramid level to use. A store with fewer levels uses its coarsest one. May be repeated. Default: 0 and all"
    " coarser ones.",
)
@click.option("--points-per-side", type=click.IntRange(1, 256), help="Points along the side of a tile.")
@click.option("--pred-iou-thresh", type=Number(0, 1), help="Drop masks with a lower predicted IoU.")
@click.option("--stability-score-thresh", type=Number(0, 1), help="Drop masks with a lower stability score.")
@click.option("--stability-score-offset", type=Number(min=0), help="Logit offset for the stability score.")
@click.option("--box-nms-thresh", type=Number(0, 1), help="Box IoU above which masks of a tile are duplicates.")
@click.option("--crop-nms-thresh", type=Number(0, 1), help="IoU above which masks of different tiles are duplicates.")
@click.option("--min-mask-region-area", type=Number(min=0), help="Remove parts and holes with fewer pixels.")
@click.option("--simplify", type=Number(min=0), default=1.0, show_default=True, help="Tolerance in pixels.")
@click.option("--min-area-m2", type=Number(min=0), default=0.0, help="Leave out smaller masks.")
@click.option(
    "--coverage",
    is_flag=True,
    help="Every pixel with data in exactly one polygon, with shared borders. --min-area-m2 is the minimum mapping unit "
    "(default: 400 pixels): what is smaller joins a neighbour.",
)
@click.option(
    "--out-crs", help="CRS of the output. Default: that of the raster, but EPSG:4326 for .kml, .geojsonl and .geojsons."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run with the same options.")
@worker_options
@output_options
def auto_command(
    store: StorePlace,
    output: Path,
    aoi: Path | None,
    levels: Sequence[int],
    simplify: float,
    min_area_m2: float,
    coverage: bool,
    out_crs: str | None,
    resume: bool,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    append: bool,
    out_layer: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Draw all objects in STORE, without prompts.

    A grid of points prompts each tile on each level. Masks with a good predicted IoU and stability score are kept,
    without duplicates. They may overlap. The thresholds have the names and the meaning of segment-anything's
    SamAutomaticMaskGenerator; by default, they suit the model of the store.

    STORE may be several: a folder of stores, or a catalogue of geosam-es catalog. The field raster names the image of
    each object. Where images overlap, each object is kept from the image whose border is farthest from its middle. An
    object that the border of an image cuts is followed into the next one where CRS, pixel grid and model agree.

    \b
    Example:
      geosam-es auto ortho.embeddings.zarr -o objects.gpkg
      geosam-es auto ortho.embeddings.zarr -o objects.gpkg --aoi parish.gpkg --level 0 --level 1
      geosam-es auto ortho.embeddings.zarr -o habitats.gpkg --coverage --min-area-m2 200
    """
    started = time.perf_counter()
    refuse_own_prompts(aoi, output, "the area of interest", out_layer)
    sheets = Sheets(store)
    if coverage and sheets.is_many:
        raise OutputError(
            "--coverage is for one store, because polygons of several images cannot share borders",
            "make a VRT of the images, and encode it as one image",
        )
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or sheets.systems[0]
    check_place(output, sheets.extent, sheets.crs, target_crs)
    fields: dict[str, NDArray[Any]] = {**_BLANK, **({"group": np.zeros(1, np.int32)} if coverage else {})}
    if sheets.is_many:
        fields[RASTER_FIELD] = np.array([""], dtype=object)
    names = field_names(output, fields)
    blank = {names[name]: column for name, column in fields.items()}
    folder = output.with_name(f"{output.name}.tiles")
    # A run in a smaller area leaves tiles of an earlier one, but no lock.
    if folder.exists() and not any(chain(folder.glob(f"*{_LOCK}"), folder.glob(f"*/{_SETTINGS}"))):
        raise OutputError(f"{folder} is not the folder of an interrupted run", "choose another name with -o")
    as_texts = check_output(output, target_crs, blank, overwrite=overwrite, append=append, layer=out_layer)
    for note in field_notes(output, names, as_texts):
        click.echo(f"Note: {note}", err=True)
    area = None if aoi is None else _area(aoi, sheets)
    given = {key: value for key, value in given.items() if value is not None}
    chosen = sorted(set(levels)) or None
    counts, lost = [], 0
    used: list[Path] = []

    def parts(cluster: Cluster | None, progress: Progress | None) -> Iterator[_Part]:
        nonlocal lost
        drawing = _Drawing(
            threads=threads if cluster is None else cluster.threads,
            levels=chosen,
            given=given,
            area=area,
            area_crs=sheets.crs,
            target_crs=target_crs,
            simplify=simplify,
            min_area_m2=min_area_m2,
            coverage=coverage,
            tiles=folder if cluster is None else folder.absolute(),
            layer=out_layer,
            resume=resume,
        )
        reached = [n for n, place in enumerate(sheets.footprints) if area is None or area.intersects(place)]
        items = sheets.items(output, cluster)
        used.extend(drawing.place(items[n]) for n in reached)
        # Nothing is written of a store of several that fails half-way.
        work = partial(_whole if sheets.is_many else _Drawing.draw, drawing)
        for done, (index, found) in enumerate(zip(reached, each(work, [items[n] for n in reached], cluster)), start=1):
            made: Iterable[_Drawn] = ()
            with sheets.guard(sheets.stores[index]):
                made = found()
            for polygons, columns, outside in made:
                lost += outside
                if sheets.is_many:
                    own = sheets.owns(index, polygons, target_crs, area)
                    polygons = list(compress(polygons, own))
                    columns = [column[own] for column in columns]
                    columns.append(np.full(len(polygons), sheets.names[index], dtype=object))
                counts.append(len(polygons))
                yield polygons, dict(zip(blank, columns))
            if progress is not None:
                progress(done, len(reached))
        sheets.check()
        if reached and all(str(sheets.stores[n]) in sheets.failed for n in reached):
            raise StoreError("none of the stores in the area can be used", "see the errors above")

    none: _Part = [], {name: column[:0] for name, column in blank.items()}
    lock = folder / f"{sha256(os.fsencode(out_layer)).hexdigest()[:8]}{_LOCK}"
    shared = workers, scheduler, threads
    with _only_run(lock, output), sheets.workers(*shared) as cluster, stores_progress(output, cluster) as progress:
        more = parts(cluster, progress)
        with _resumable():
            first = next(more, none)
            write_vector(output, *first, target_crs, overwrite=overwrite, append=append, layer=out_layer, more=more)
    if not sheets.failed:
        for place in used:
            shutil.rmtree(place, ignore_errors=True)
        # What other runs need stays.
        with suppress(OSError):
            lock.unlink()
            folder.rmdir()
    note_outside(lost, output, target_crs)
    seconds = time.perf_counter() - started
    if as_json:
        click.echo(json.dumps({"output": str(output), "polygons": sum(counts), "seconds": round(seconds, 3)}))
    else:
        click.echo(f"{output}: {counted(sum(counts), 'polygon')} in {seconds:.1f} s")
    sheets.finish(append, "--resume --overwrite")


@dataclass(frozen=True)
class _Drawing:
    """The options of a run, which are the same for all stores."""

    threads: int | None
    levels: list[int] | None
    given: dict[str, Any]
    area: BaseGeometry | None
    area_crs: pyproj.CRS
    target_crs: pyproj.CRS
    simplify: float
    min_area_m2: float
    coverage: bool
    tiles: Path
    layer: str
    resume: bool

    def place(self, sheet: Sheet) -> Path:
        """Return the folder for the tiles of a store."""
        # Neighbours that come later change what is drawn.
        stores = [os.fsencode(os.path.abspath(str(place))) for place in (sheet.store, *sheet.neighbours)]  # noqa: PTH100
        return self.tiles / sha256(b"/".join([*stores, os.fsencode(self.layer)])).hexdigest()[:20]

    def draw(self, sheet: Sheet) -> Iterator[_Drawn]:
        """Draw all objects of a store."""
        with sheet.segmenter(self.threads) as segmenter:
            yield from self._draw(sheet, segmenter)

    def _draw(self, sheet: Sheet, segmenter: Segmenter) -> Iterator[_Drawn]:
        crs, reader = sheet.crs, segmenter.reader
        coarsest = reader.pyramid.grids[-1].level
        levels = None if self.levels is None else sorted({min(level, coarsest) for level in self.levels})
        options = replace(default_options(segmenter), **self.given)
        inside = None if self.area is None else _native(self.area, self.area_crs, segmenter, crs)
        missing = note_missing(reader, chain.from_iterable(rows_of_tiles(segmenter, levels, inside)))
        encoded = [(one.metadata.origin(Tile(0, 0, 0), ()), one.metadata.created) for one in reader.readers]
        decoder = [prefixed_sha256(file) for file in (reader.decoder.prepare_path, reader.decoder.decoder_path) if file]
        begun = [encoded, decoder, levels, asdict(options)]
        settings = [*begun, missing, zlib.crc32(shapely.to_wkb(inside) or b"")]
        cache = _TileFolder(self.place(sheet), settings, self.resume)
        with sheet.progress() as progress:
            found = automatic_masks(segmenter, options, levels, inside, progress, cache)
            masks: Iterator[AutomaticMask | CoveragePolygon] = found
            least = self.min_area_m2
            if self.coverage:
                masks = _coverage(segmenter, found, inside, levels, least, self.simplify)
                least = 0.0
            for first in masks:
                part = [first, *islice(masks, _TOGETHER - 1)]
                yield _features(part, segmenter, crs, self.target_crs, self.simplify, least)


def _whole(drawing: _Drawing, sheet: Sheet) -> list[_Drawn]:
    return list(drawing.draw(sheet))


def _coverage(
    segmenter: Segmenter,
    masks: Iterator[AutomaticMask],
    area: BaseGeometry | None,
    levels: Sequence[int] | None,
    min_area_m2: float,
    simplify: float,
) -> Iterator[CoveragePolygon]:
    notes: list[str] = []
    path = raster_to_show(segmenter.reader, None, notes)
    raster = None if path is None else open_raster(segmenter.reader, path)
    if raster is None:
        what = notes[0] if notes else "the raster is not beside the store."
        click.echo(f"Note: {what} Only tiles without any data are left out.", err=True)
    options = CoverageOptions(simplify_tolerance=simplify * CoverageOptions.simplify_tolerance)
    if min_area_m2:
        pixel_m = middle_pixel_m(segmenter, AreaMeter(store_crs(segmenter.reader)))
        options = replace(options, min_area=min_area_m2 / pixel_m**2)
    has_data = None if raster is None else raster.read_valid
    return automatic_coverage(segmenter, masks, options, area, has_data, min(levels or [0]))


def _area(path: Path, sheets: Sheets) -> BaseGeometry:
    """Read an area of interest into the CRS of the stores."""
    layer = vector_layer(path, None, sheets.crs)
    if layer.crs is not None:
        check_degrees(layer.geometries, layer.crs, str(path), ASSIGN_CRS)
    area = area_on(layer.geometries, layer.crs or sheets.crs, sheets.crs, sheets.extent)
    if area.area == 0:
        raise VectorError(f"{path} has no polygons", "give a layer with polygons")
    if not shapely.intersects(area, sheets.footprints).any():
        raise VectorError(f"{path} lies outside the raster of {sheets.stores[0]}", "check the layer and its CRS")
    return area


def _native(area: BaseGeometry, area_crs: pyproj.CRS, segmenter: Segmenter, crs: pyproj.CRS) -> BaseGeometry:
    """Return an area in native pixels."""
    extent = Bounds(*footprint_of(segmenter.reader).bounds)
    there = area_on(np.array([area], dtype=object), area_crs, crs, extent)
    native: BaseGeometry = segmenter.reader.metadata.raster.transform.inverse().apply_geometry(there)
    return native


def _features(
    masks: Sequence[AutomaticMask | CoveragePolygon],
    segmenter: Segmenter,
    crs: pyproj.CRS,
    target_crs: pyproj.CRS,
    simplify: float,
    min_area_m2: float,
) -> _Drawn:
    """Return the polygons and columns of masks, without those too small, and how many the CRS of the output lacks."""
    metadata, meter = segmenter.reader.metadata, AreaMeter(crs)
    transform = metadata.raster.transform
    polygons = np.array([mask.on_map(transform, simplify) for mask in masks], dtype=object)
    points = np.array(shapely.points(transform.apply_array(np.array([mask.point for mask in masks]))), dtype=object)
    projected, is_defined = reproject_polygons(polygons, crs, target_crs)
    areas = np.array([meter.area_m2(polygon) for polygon in polygons])
    is_large = (areas >= min_area_m2) & (areas > 0)
    is_kept = is_large & is_defined
    x, y = shapely.get_coordinates(reproject(points, crs, target_crs, may_fail=True)).T
    scores = np.array([(mask.predicted_iou, mask.stability_score) for mask in masks]).T
    levels = np.array([mask.level for mask in masks], dtype=np.int32)
    model = np.full(len(masks), str(metadata.model["name"]), dtype=object)
    columns = [*scores, levels, areas, x, y, model]
    if isinstance(masks[0], CoveragePolygon):
        columns.append(np.array([mask.group for mask in masks if isinstance(mask, CoveragePolygon)], dtype=np.int32))
    return list(projected[is_kept]), [column[is_kept] for column in columns], int((is_large & ~is_defined).sum())


@contextmanager
def _only_run(lock: Path, output: Path) -> Iterator[None]:
    """Refuse a second run into the same layer; the lock ends with the process."""
    lock.parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            # A database, because its lock works on all systems.
            database = stack.enter_context(closing(sqlite3.connect(lock, timeout=0, isolation_level=None)))
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise OutputError(
                    f"{output} is being drawn by another run", "wait for it, or choose another name with -o"
                ) from error
            raise OutputError(
                f"{lock} cannot be locked ({error})",
                "check its permissions and the free space, or choose another name with -o",
            ) from error
        yield


@contextmanager
def _resumable() -> Iterator[None]:
    """Say in errors of writing that the tiles drawn so far are kept."""
    try:
        yield
    except OSError as error:
        known = user_error(error)
        if known is None or "--resume" in known.remedy:
            raise
        raise OutputError(known.problem, f"{known.remedy}; the same command continues with --resume") from error


class _TileFolder:
    """Masks of the tiles done so far, in a folder beside the output; see `TileCache`."""

    def __init__(self, path: Path, settings: Sequence[Any], resume: bool) -> None:
        self._path = path
        wanted, found = json.dumps(settings), self._path / _SETTINGS
        if resume and found.is_file() and found.read_text(encoding="utf-8") != wanted:
            raise OutputError(f"the run in {path} was begun with other options or tiles", "leave out --resume")
        if not resume:
            shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True, exist_ok=True)
        write_text(found, wanted)

    def read(self, tile: Tile) -> list[AutomaticMask] | None:
        """Return the masks of a tile, or None if it was not written."""
        path = self._file(tile)
        if not path.is_file():
            return None
        return [
            AutomaticMask(shapely.from_wkb(polygon), iou, stability, (x, y), tile, *rest)
            for polygon, iou, stability, (x, y), _, *rest in json.loads(path.read_text(encoding="utf-8"))
        ]

    def write(self, tile: Tile, masks: Sequence[AutomaticMask]) -> None:
        """Keep the masks of a tile."""
        values = [(shapely.to_wkb(mask.polygon, hex=True), *mask[1:]) for mask in masks]
        write_text(self._file(tile), json.dumps(values))

    def _file(self, tile: Tile) -> Path:
        return self._path / f"{tile.level}_{tile.row}_{tile.col}.json"
