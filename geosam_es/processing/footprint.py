"""Shows where a store is and which of its tiles are encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shapely
from qgis.core import (
    QgsFeature,
    QgsFields,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..errors import StoreError, marked
from ..qgis_support.crs import to_qgs
from ..qgis_support.fields import REAL, TEXT, WHOLE, make_fields
from ..qgis_support.live_store import find_store
from ..qgis_support.messages import tr
from ..store.reader import StoreReader, TileState
from .base import ImageAlgorithm
from .image import Image

__all__ = ["StoreFootprintAlgorithm"]

Counts = dict[TileState, int]


class StoreFootprintAlgorithm(ImageAlgorithm):
    """Writes the outline of the raster, and the tiles of a store with their state."""

    ID = "storefootprint"
    TITLE = marked("Outline and tiles of a prepared image")
    HELP = marked(
        "Choose a raster that has been prepared, or the folder of a prepared image. The algorithm writes the "
        "outline of the raster as a polygon, with the properties of the prepared image, and one polygon for each "
        "tile of each level with its state: encoded (prepared), skipped (no data, or outside the area of interest) "
        "or missing."
    )
    GROUP = "stores"
    FOOTPRINT = "FOOTPRINT"
    TILES = "TILES"
    COUNTS = {TileState.ENCODED: "ENCODED", TileState.SKIPPED: "SKIPPED", TileState.MISSING: "MISSING"}  # noqa: RUF012

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        self.add_image_parameters()
        self.add_sink(self.FOOTPRINT, tr("Outline"))
        self.add_sink(self.TILES, tr("Tiles"), optional=True)
        self.addOutput(QgsProcessingOutputNumber(self.COUNTS[TileState.ENCODED], tr("Prepared tiles")))
        self.addOutput(QgsProcessingOutputNumber(self.COUNTS[TileState.SKIPPED], tr("Skipped tiles")))
        self.addOutput(QgsProcessingOutputNumber(self.COUNTS[TileState.MISSING], tr("Missing tiles")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Write the outline and the tiles; see `OneSentenceAlgorithm.execute`."""
        reader = StoreReader(self._find_store(parameters, context))
        crs = Image(reader.root, None, self.source).crs
        polygon = QgsWkbTypes.Type.Polygon
        tiles, counts = _tiles(reader, feedback)
        if feedback.isCanceled():
            return {}
        write = self.open_sink(parameters, self.FOOTPRINT, context, _footprint_fields(), crs, polygon)
        write([_footprint(reader, counts)])
        self.open_sink(parameters, self.TILES, context, _tile_fields(), crs, polygon)(tiles)
        return {**self.outputs, **{self.COUNTS[state]: count for state, count in counts.items()}}

    def _find_store(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Path:
        chosen = self.store(parameters, context)
        if chosen is not None or self.source is None:
            return chosen or Path()
        found = find_store(self.source, self.options)
        if found is None:
            raise StoreError(
                tr("{name} has not been prepared").format(name=self.source.name),
                tr("run Prepare raster first, or choose the folder of its prepared image"),
            )
        return found


def _tiles(reader: StoreReader, feedback: QgsProcessingFeedback) -> tuple[list[QgsFeature], Counts]:
    """Return the tiles, and their counts by state; only some if the user cancels."""
    features: list[QgsFeature] = []
    counts = dict.fromkeys(TileState, 0)
    fields = _tile_fields()
    tiles = [tile for grid in reader.grids for tile in reader.tiles(grid.level)]
    for done, tile in enumerate(tiles, start=1):
        if feedback.isCanceled():
            break
        state = reader.state(tile)
        if tile.level < 0 and state is TileState.MISSING:
            # Enlarged levels need not be complete.
            continue
        counts[state] += 1
        pixel = reader.metadata.raster.transform.pixel_size * 2.0**tile.level
        feature = _feature(reader, shapely.box(*reader.pyramid.tile_bounds(tile)), fields)
        feature.setAttributes([tile.level, tile.row, tile.col, state.value, pixel])
        features.append(feature)
        feedback.setProgress(100.0 * done / len(tiles))
    return features, counts


def _footprint(reader: StoreReader, counts: Counts) -> QgsFeature:
    metadata = reader.metadata
    feature = _feature(reader, shapely.box(*reader.pyramid.bounds), _footprint_fields())
    feature.setAttributes(
        [
            metadata.raster.file_name,
            metadata.raster.width,
            metadata.raster.height,
            metadata.raster.transform.pixel_size,
            ",".join(str(band) for band in metadata.bands),
            str(metadata.model["name"]),
            metadata.levels,
            *counts.values(),
            metadata.created,
        ]
    )
    return feature


def _feature(reader: StoreReader, native: BaseGeometry, fields: QgsFields) -> QgsFeature:
    """Return a feature for a rectangle in native pixels; on the map it may be rotated."""
    feature = QgsFeature(fields)
    feature.setGeometry(to_qgs(reader.metadata.raster.transform.apply_geometry(native)))
    return feature


def _footprint_fields() -> QgsFields:
    return make_fields(
        raster=TEXT,
        width=WHOLE,
        height=WHOLE,
        pixel_size=REAL,
        bands=TEXT,
        model=TEXT,
        levels=WHOLE,
        encoded=WHOLE,
        skipped=WHOLE,
        missing=WHOLE,
        created=TEXT,
    )


def _tile_fields() -> QgsFields:
    return make_fields(level=WHOLE, row=WHOLE, col=WHOLE, state=TEXT, pixel_size=REAL)
