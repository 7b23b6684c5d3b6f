"""``geosam-es update``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geosam_es.errors import StoreError
from geosam_es.inference.session import open_segmenter

from ..crs import parse_crs, store_crs
from ..segment import UpdateOptions, polygons_from_layer
from ..vector_formats import FORMATS, default_crs
from .options import PATH, STORE, Number, StorePlace, refuse_own_prompts
from .segment import answer_options, draw, output_options, vector_layer
from .sheets import Sheets

__all__ = ["update_command"]

_DEFAULTS = UpdateOptions()


@click.command("update", short_help="Find older polygons again on a newer image.")
@click.argument("store", type=STORE)
@click.argument("polygons", metavar="OLD_POLYGONS", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--crs", help="CRS of an OLD_POLYGONS file without CRS.")
@click.option(
    "--out-crs",
    help="CRS of the output. Default: that of OLD_POLYGONS, but EPSG:4326 for .kml, .geojsonl and .geojsons.",
)
@click.option(
    "--same-iou",
    type=Number(0, 1),
    default=_DEFAULTS.same_iou,
    show_default=True,
    help="Minimum IoU with the old polygon of an object that is the same or, with the polygon displaced, has moved.",
)
@click.option(
    "--gone-score",
    type=Number(0, 1),
    default=_DEFAULTS.gone_score,
    show_default=True,
    help="An object is gone if the mean score of two answers, to its outline and to a click in its middle, is lower."
    " Not used with --old-store.",
)
@click.option(
    "--tolerance",
    type=Number(min=0),
    default=_DEFAULTS.tolerance,
    show_default=True,
    metavar="PIXELS",
    help="Where the outline of a changed object differs by less, the old vertices are kept.",
)
@click.option(
    "--old-store",
    type=STORE,
    metavar="STORE",
    help="Store of the image that OLD_POLYGONS were drawn on. The verdicts are more reliable with it.",
)
@answer_options
@output_options
def update_command(
    store: StorePlace,
    polygons: Path,
    output: Path,
    crs: str | None,
    out_crs: str | None,
    same_iou: float,
    gone_score: float,
    tolerance: float,
    old_store: StorePlace | None,
    threads: int | None,
    **options: Any,
) -> None:
    """Find the objects of OLD_POLYGONS in STORE, made from a newer image; a folder or a catalogue has several.

    Each old polygon prompts the new image. The output has the new outline, its score, its IoU with the old polygon, and
    the verdict: same, moved, changed or gone. Polygons that are the same or gone keep their vertices, a moved one its
    shape, and a changed one the vertices where its border has not changed. All fields are copied to the output.

    If the model draws an object differently from you, the object may be called changed or gone. With --old-store, the
    outlines that the model draws on both images are compared. This avoids most of these errors.

    \b
    Example:
      geosam-es update ortho_2025.embeddings.zarr parcels_2022.gpkg -o parcels_2025.gpkg
    """
    sheets = Sheets(store)
    refuse_own_prompts(polygons, output, layer=options["out_layer"])
    layer = vector_layer(polygons, parse_crs(crs) if crs else None, sheets.crs)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or layer.crs or sheets.systems[0]
    older = open_segmenter(old_store, threads) if old_store is not None else None
    for raster_crs in sheets.systems:
        if older is not None and not raster_crs.equals(store_crs(older.reader), ignore_axis_order=True):
            raise StoreError(
                f"{old_store} has the CRS {store_crs(older.reader).name}, and {store} {raster_crs.name}",
                "prepare the older image in the CRS of the newer one, or leave out --old-store",
            )
    thresholds = UpdateOptions(same_iou, gone_score, tolerance, older)
    draw(
        sheets, threads, polygons_from_layer, layer, str(polygons), output, target_crs, thresholds=thresholds, **options
    )
