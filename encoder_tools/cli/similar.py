"""``geosam-es similar``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyproj
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.errors import PromptError, StoreError
from geosam_es.inference.batch import middle_pixel_m
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import open_segmenter
from geosam_es.inference.similar import SimilarObjects

from ..crs import AreaMeter, parse_crs, reproject_polygons, store_crs
from ..progress import Progress
from ..segment import check_place, polygons_from_layer
from ..vector import VectorLayer
from ..vector_output import FORMATS, check_output, default_crs, write_vector
from .options import PATH, STORE, Number, StorePlace, note_missing, note_outside, refuse_own_prompts
from .segment import output_options, vector_layer
from .sheets import RASTER_FIELD, Sheets

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
@click.option("--out-crs", help="CRS of the output. Default: that of EXAMPLES, but EPSG:4326 for .kml and .geojsonl.")
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
        refuse_own_prompts(path, output, "a file of input polygons")
        if path is not None:
            layers[path] = vector_layer(path, given, sheets.crs)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or layers[examples].crs or sheets.systems[0]
    check_place(output, sheets.extent, sheets.crs, target_crs)
    added = {RASTER_FIELD: np.array([""], dtype=object)} if sheets.is_many else None
    check_output(output, target_crs, added, overwrite=overwrite, append=append, layer=out_layer)

    def opened(index: int) -> tuple[Segmenter, dict[Path | None, list[BaseGeometry]]]:
        segmenter, system = open_segmenter(sheets.stores[index], threads), sheets.systems[index]
        native: dict[Path | None, list[BaseGeometry]] = {None: []}
        native.update((path, _native(layer, segmenter, system, path)) for path, layer in layers.items())
        return segmenter, native

    learnt = [layers[path] for path in (examples, rejected) if path is not None]
    owners = np.concatenate([sheets.owners(layer.geometries, layer.crs or sheets.crs) for layer in learnt])
    finder: SimilarObjects | None = None
    for index in dict.fromkeys(owners[owners >= 0].tolist() or [0]):
        with sheets.guard(sheets.stores[index]):
            segmenter, native = opened(index)
            if finder is not None:
                _move(finder, segmenter)
                finder.learn(native[examples], native[rejected])
                continue
            try:
                finder = SimilarObjects(segmenter, native[examples])
                finder.learn([], native[rejected])
            except PromptError:
                # Another image may show an example.
                if not sheets.is_many:
                    raise
    if finder is None:
        raise PromptError(f"no image shows an example of {examples}", "prepare it, or choose other examples")
    polygons: list[BaseGeometry] = []
    columns: list[list[NDArray[Any]]] = []
    for index, place in enumerate(sheets.stores):
        if str(place) in sheets.failed:
            continue
        with sheets.guard(place):
            there = native[known]
            if sheets.is_many:
                segmenter, native = opened(index)
                _move(finder, segmenter)
                there = [*native[known], *native[examples], *native[rejected]]
            note_missing(segmenter.reader, segmenter.reader.tiles(finder.level))
            with Progress(sheets.label(output, index), "tiles") as progress:
                found = list(finder.search(threshold=threshold, known=there, progress=progress))
            to_map, meter = segmenter.reader.metadata.raster.transform.apply_geometry, AreaMeter(sheets.systems[index])
            outlines = np.array([to_map(item.polygon) for item in found], dtype=object)
            projected, is_defined = reproject_polygons(outlines, sheets.systems[index], target_crs)
            note_outside(int((~is_defined).sum()), f"polygon(s) of {output}", target_crs)
            kept = is_defined & sheets.owns(index, outlines, sheets.systems[index])
            columns.append([
                np.array([item.likeness for item in found], np.float64)[kept],
                np.array([item.score for item in found], np.float64)[kept],
                np.array([meter.area_m2(outline) for outline in outlines], np.float64)[kept],
                np.full(int(kept.sum()), sheets.names[index], dtype=object),
            ])  # fmt: skip
            polygons += list(projected[kept])
    sheets.check()
    names = ["likeness", "score", "area_m2", *([RASTER_FIELD] if sheets.is_many else [])]
    fields = {name: np.concatenate(parts) for name, parts in zip(names, zip(*columns))}
    write_vector(output, polygons, fields, target_crs, append=append, layer=out_layer)
    seconds = time.perf_counter() - started
    if as_json:
        value = {"output": str(output), "objects": len(polygons), "seconds": round(seconds, 3)}
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(f"{output}: {len(polygons)} polygon(s) in {seconds:.1f} s")
    sheets.finish(append)


def _move(finder: SimilarObjects, segmenter: Segmenter) -> None:
    """Go on to another store, unless its features cannot be compared."""
    both = (finder.segmenter, segmenter)
    first, second = (middle_pixel_m(one, AreaMeter(store_crs(one.reader))) for one in both)
    is_same_model = len({str(one.reader.metadata.model["encoder_sha256"]) for one in both}) == 1
    if not is_same_model or abs(first - second) > _PIXEL_TOLERANCE * first:
        raise StoreError("its model or size of pixels differs from that of the examples", "encode the images alike")
    finder.move(segmenter)


def _native(layer: VectorLayer, segmenter: Segmenter, crs: pyproj.CRS, path: Path) -> list[BaseGeometry]:
    """Return the polygons of a layer in native pixels; those that cannot be transformed are left out, with a note."""
    to_native = segmenter.reader.metadata.raster.transform.inverse().apply_geometry
    outlines = [item.outline for item in polygons_from_layer(layer, crs, str(path), segmenter.map_bounds)]
    kept: list[BaseGeometry] = [
        to_native(item) for item in outlines if item is not None and np.isfinite(item.bounds).all()
    ]
    note_outside(len(outlines) - len(kept), f"polygon(s) of {path}", crs)
    return kept
