"""``geosam-es similar``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import numpy as np
import pyproj
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.errors import PromptError, StoreError
from geosam_es.inference.batch import middle_pixel_m
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.similar import SimilarObjects

from ..crs import AreaMeter, parse_crs, reproject_polygons, store_crs
from ..segment import check_place, polygons_from_layer
from ..vector import VectorLayer
from ..vector_formats import FORMATS, default_crs
from ..vector_output import check_output, write_vector
from .options import PATH, STORE, Number, StorePlace, counted, note_missing, note_outside, refuse_own_prompts
from .segment import output_options, vector_layer
from .sheets import RASTER_FIELD, Sheet, Sheets, each, stores_progress, worker_options

__all__ = ["similar_command"]

_PIXEL_TOLERANCE = 0.1
"""Largest difference in the size of pixels of images that are searched together."""


@click.command("similar")
@click.argument("store", type=STORE)
@click.argument("examples", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--rejected", type=PATH, help="Counterexamples, such as wrong results of an earlier run.")
@click.option("--known", type=PATH, help="Polygons of objects that you have already; they are left out.")
@click.option(
    "--threshold",
    type=Number(0, 1),
    default=0.5,
    show_default=True,
    help="Minimum likeness. A lower one finds more objects, and more that are wrong.",
)
@click.option("--crs", help="CRS of files of polygons without CRS.")
@click.option(
    "--out-crs", help="CRS of the output. Default: that of EXAMPLES, but EPSG:4326 for .kml, .geojsonl and .geojsons."
)
@worker_options
@output_options
def similar_command(
    store: StorePlace,
    examples: Path,
    output: Path,
    rejected: Path | None,
    known: Path | None,
    threshold: float,
    crs: str | None,
    out_crs: str | None,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    append: bool,
    out_layer: str,
    as_json: bool,
) -> None:
    """Find more objects in STORE like the polygons of EXAMPLES.

    A few examples of one kind are enough. The output has the other objects of the image, with their likeness to the
    examples from 0 to 1, the score of the model and the area. To improve the result, move correct ones to EXAMPLES and
    wrong ones to a file for --rejected, and run it again.

    STORE may be several with one model: a folder of stores, or a catalogue of geosam-es catalog. The field raster names
    the image of each object.

    \b
    Example:
      geosam-es similar ortho.embeddings.zarr three_roofs.gpkg -o roofs.gpkg
    """
    started = time.perf_counter()
    sheets, given = Sheets(store), parse_crs(crs) if crs else None
    layers = {}
    for path in (examples, rejected, known):
        refuse_own_prompts(path, output, "a file of input polygons", out_layer)
        if path is not None:
            layers[path] = vector_layer(path, given, sheets.crs)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or layers[examples].crs or sheets.systems[0]
    check_place(output, sheets.extent, sheets.crs, target_crs)
    added = {RASTER_FIELD: np.array([""], dtype=object)} if sheets.is_many else None
    check_output(output, target_crs, added, overwrite=overwrite, append=append, layer=out_layer)

    learnt = [layers[path] for path in (examples, rejected) if path is not None]
    owners = np.concatenate([sheets.owners(layer.geometries, layer.crs or sheets.crs) for layer in learnt])
    polygons: list[BaseGeometry] = []
    columns: list[list[NDArray[Any]]] = []
    with sheets.workers(workers, scheduler, threads) as cluster, stores_progress(output, cluster) as progress:
        items = sheets.items(output, cluster)
        threads = threads if cluster is None else cluster.threads
        paths = examples, rejected, known
        search = _Search(uuid4().hex, threads, threshold, layers, paths, target_crs, output, [], sheets.is_many)
        finder: SimilarObjects | None = None
        for index in dict.fromkeys(owners[owners >= 0].tolist() or [0]):
            with sheets.guard(sheets.stores[index]):
                finder = search.learn(finder, items[index])
                search.places.append(items[index])
        if finder is None:
            raise PromptError(f"no image shows an example of {examples}", "prepare it, or choose other examples")
        left = [index for index, place in enumerate(sheets.stores) if str(place) not in sheets.failed]
        work = partial(_find, search, finder if cluster is None else None)
        for done, (index, found) in enumerate(zip(left, each(work, [items[n] for n in left], cluster)), start=1):
            with sheets.guard(sheets.stores[index]):
                outlines, projected, is_defined, values = found()
                kept = is_defined & sheets.owns(index, outlines, sheets.systems[index])
                name = np.full(int(kept.sum()), sheets.names[index], dtype=object)
                columns.append([*(value[kept] for value in values), name])
                polygons += list(projected[kept])
            if progress is not None:
                progress(done, len(left))
    sheets.check()
    names = ["likeness", "score", "area_m2", *([RASTER_FIELD] if sheets.is_many else [])]
    fields = {name: np.concatenate(parts) for name, parts in zip(names, zip(*columns))}
    write_vector(output, polygons, fields, target_crs, overwrite=overwrite, append=append, layer=out_layer)
    seconds = time.perf_counter() - started
    if as_json:
        value = {"output": str(output), "objects": len(polygons), "seconds": round(seconds, 3)}
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(f"{output}: {counted(len(polygons), 'polygon')} in {seconds:.1f} s")
    sheets.finish(append)


_Found = tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.bool_], list[NDArray[np.float64]]]
"""Polygons of a store in its CRS and in that of the output, whether it has a place for them, and their columns."""


@dataclass(frozen=True, eq=False)
class _Search:
    """What to look for, and where it is learnt. Equal to its copies in the workers.

    Attributes
    ----------
    key : str
    paths : tuple
        Of the examples, and of the rejected and the known objects.
    places : list of Sheet
        The stores with examples.
    """

    key: str
    threads: int | None
    threshold: float
    layers: dict[Path, VectorLayer]
    paths: tuple[Path, Path | None, Path | None]
    target_crs: pyproj.CRS
    output: Path
    places: list[Sheet]
    is_many: bool

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Search) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def native(self, path: Path | None, segmenter: Segmenter, sheet: Sheet) -> list[BaseGeometry]:
        """Return the polygons of a layer in native pixels of a store, without those that have no place there."""
        if path is None:
            return []
        to_native = segmenter.reader.metadata.raster.transform.inverse().apply_geometry
        items = polygons_from_layer(self.layers[path], sheet.crs, str(path), segmenter.map_bounds)
        outlines = [item.outline for item in items if item.outline is not None]
        kept: list[BaseGeometry] = [to_native(item) for item in outlines if np.isfinite(item.bounds).all()]
        note_outside(len(items) - len(kept), path, sheet.crs)
        return kept

    def learn(self, finder: SimilarObjects | None, sheet: Sheet) -> SimilarObjects | None:
        """Learn from one more store; return None as long as none shows an example."""
        # Afterwards, only a search in a single store still reads it.
        with sheet.segmenter(self.threads) as segmenter:
            return self._learn(finder, sheet, segmenter)

    def _learn(self, finder: SimilarObjects | None, sheet: Sheet, segmenter: Segmenter) -> SimilarObjects | None:
        wanted, rejected = (self.native(path, segmenter, sheet) for path in self.paths[:2])
        if finder is not None:
            _move(finder, segmenter)
            finder.learn(wanted, rejected)
            return finder
        try:
            finder = SimilarObjects(segmenter, wanted)
            finder.learn([], rejected)
        except PromptError:
            # Another image may show an example.
            if not self.is_many:
                raise
        return finder


@lru_cache(maxsize=1)
def _learnt(search: _Search) -> SimilarObjects:
    """Learn in a worker what the client has learnt."""
    finder: SimilarObjects | None = None
    for place in search.places:
        finder = search.learn(finder, place)
    if finder is None:
        raise PromptError(f"no image shows an example of {search.paths[0]}", "choose other examples")
    return finder


def _find(search: _Search, finder: SimilarObjects | None, sheet: Sheet) -> _Found:
    """Search one store."""
    # So that no store depends on those before it.
    finder = copy(finder or _learnt(search))
    if not search.is_many:
        return _find_in(search, finder, sheet, search.paths[2:])
    with sheet.segmenter(search.threads) as segmenter:
        _move(finder, segmenter)
        return _find_in(search, finder, sheet, search.paths)


def _find_in(search: _Search, finder: SimilarObjects, sheet: Sheet, hidden: Sequence[Path | None]) -> _Found:
    """Search the store of a finder, without the polygons of some layers."""
    segmenter = finder.segmenter
    there = [polygon for path in hidden for polygon in search.native(path, segmenter, sheet)]
    note_missing(segmenter.reader, segmenter.reader.tiles(finder.level))
    with sheet.progress() as progress:
        found = list(finder.search(threshold=search.threshold, known=there, progress=progress))
    to_map, meter = segmenter.reader.metadata.raster.transform.apply_geometry, AreaMeter(sheet.crs)
    outlines = np.array([to_map(item.polygon) for item in found], dtype=object)
    projected, is_defined = reproject_polygons(outlines, sheet.crs, search.target_crs)
    note_outside(int((~is_defined).sum()), search.output, search.target_crs)
    # Further digits of the likeness differ with the threads of the linear algebra.
    rows = [(round(item.likeness, 6), item.score, meter.area_m2(outline)) for item, outline in zip(found, outlines)]
    return outlines, projected, is_defined, list(np.array(rows, np.float64).reshape(-1, 3).T)


def _move(finder: SimilarObjects, segmenter: Segmenter) -> None:
    """Go on to another store, unless its features cannot be compared."""
    both = (finder.segmenter, segmenter)
    first, second = (middle_pixel_m(one, AreaMeter(store_crs(one.reader))) for one in both)
    is_same_model = len({str(one.reader.metadata.model["encoder_sha256"]) for one in both}) == 1
    if not is_same_model or abs(first - second) > _PIXEL_TOLERANCE * first:
        raise StoreError("its model or size of pixels differs from that of the examples", "encode the images alike")
    finder.move(segmenter)
