"""``geosam-es similar``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
import pyproj
from shapely.geometry.base import BaseGeometry

from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import open_segmenter
from geosam_es.inference.similar import SimilarObjects

from ..crs import AreaMeter, parse_crs, reproject_polygons, store_crs
from ..progress import Progress
from ..segment import check_place, polygons_from_layer
from ..vector import VectorLayer
from ..vector_output import FORMATS, check_output, default_crs, write_vector
from .options import PATH, Number
from .segment import note_missing, note_outside, output_options, refuse_own_prompts, vector_layer

__all__ = ["similar_command"]


@click.command("similar")
@click.argument("store", type=PATH)
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
    store: Path,
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

    \b
    Example:
      geosam-es similar ortho.embeddings.zarr three_roofs.gpkg -o roofs.gpkg
    """
    started = time.perf_counter()
    segmenter = open_segmenter(store, threads)
    raster_crs, given = store_crs(segmenter.reader), parse_crs(crs) if crs else None
    layers = {}
    for path in (examples, rejected, known):
        refuse_own_prompts(path, output, "a file of input polygons")
        if path is not None:
            layers[path] = vector_layer(path, given, raster_crs)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or layers[examples].crs or raster_crs
    check_place(output, segmenter.map_bounds, raster_crs, target_crs)
    check_output(output, target_crs, overwrite=overwrite, append=append, layer=out_layer)
    native = {path: _native(layer, segmenter, raster_crs, path) for path, layer in layers.items()}
    finder = SimilarObjects(segmenter, native[examples])
    note_missing(segmenter.reader, segmenter.reader.tiles(finder.level))
    finder.learn([], native[rejected] if rejected is not None else [])
    with Progress(output.name, "tiles") as progress:
        there = native[known] if known is not None else []
        found = list(finder.search(threshold=threshold, known=there, progress=progress))
    to_map = segmenter.reader.metadata.raster.transform.apply_geometry
    polygons = np.array([to_map(item.polygon) for item in found], dtype=object)
    meter = AreaMeter(raster_crs)
    fields = {
        "likeness": np.array([item.likeness for item in found], np.float64),
        "score": np.array([item.score for item in found], np.float64),
        "area_m2": np.array([meter.area_m2(polygon) for polygon in polygons], np.float64),
    }
    projected, is_defined = reproject_polygons(polygons, raster_crs, target_crs)
    note_outside(int((~is_defined).sum()), f"polygon(s) of {output}", target_crs)
    fields = {name: column[is_defined] for name, column in fields.items()}
    write_vector(output, list(projected[is_defined]), fields, target_crs, append=append, layer=out_layer)
    seconds = time.perf_counter() - started
    if as_json:
        count = int(is_defined.sum())
        click.echo(json.dumps({"output": str(output), "objects": count, "seconds": round(seconds, 3)}, indent=2))
    else:
        click.echo(f"{output}: {int(is_defined.sum())} polygon(s) in {seconds:.1f} s")


def _native(layer: VectorLayer, segmenter: Segmenter, crs: pyproj.CRS, path: Path) -> list[BaseGeometry]:
    """Return the polygons of a layer in native pixels; those that cannot be transformed are left out, with a note."""
    to_native = segmenter.reader.metadata.raster.transform.inverse().apply_geometry
    outlines = [item.outline for item in polygons_from_layer(layer, crs, str(path), segmenter.map_bounds)]
    kept: list[BaseGeometry] = [
        to_native(item) for item in outlines if item is not None and np.isfinite(item.bounds).all()
    ]
    note_outside(len(outlines) - len(kept), f"polygon(s) of {path}", crs)
    return kept
