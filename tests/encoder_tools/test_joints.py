"""Polygons do not depend on where the joints of the tiles lie: the embedded model, real roofs, two tilings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from encoder_tools.crs import reproject
from encoder_tools.models.loading import load_model
from encoder_tools.pipeline import EncodeOptions, encode, make_plan
from encoder_tools.raster import Raster
from encoder_tools.segment import ObjectPrompts, SegmentOptions, segment
from encoder_tools.vector import read_vector
from geosam_es.core.prompts import Point
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import open_segmenter

OVERLAPS = (256, 301)
MIN_AREA_M2 = 10.0


@pytest.fixture(scope="module")
def raster(data_folder: Path) -> Raster:
    return Raster(data_folder / "buildings/val_kampala/ortho_block0.tif")


@pytest.fixture(scope="module")
def segmenters(raster: Raster, tmp_path_factory: pytest.TempPathFactory) -> list[Segmenter]:
    folder = tmp_path_factory.mktemp("joints")
    model = load_model("mini", None, "auto", folder)
    opened = []
    for overlap in OVERLAPS:
        store = folder / f"{overlap}.embeddings.zarr"
        plan = make_plan(raster, model.encoder, EncodeOptions(overlap=overlap, levels=1))
        encode(plan, model.encoder, store, model.export_decoder)
        opened.append(open_segmenter(store))
    return opened


@pytest.fixture(scope="module")
def roofs(raster: Raster, data_folder: Path) -> list[shapely.Geometry]:
    """Labelled roofs wholly inside the image that a border of the first tiling cuts, in map coordinates."""
    layer = read_vector(data_folder / "buildings/val_kampala/labels.geojson")
    crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
    outlines = shapely.make_valid(reproject(layer.geometries, layer.crs or crs, crs))
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    return [outline for outline in outlines if extent.contains(outline) and outline.area >= MIN_AREA_M2]


def at_a_joint(segmenter: Segmenter, roof: shapely.Geometry) -> bool:
    transform = segmenter.reader.metadata.raster.transform
    pixels = transform.inverse().apply_geometry(roof)
    borders = [shapely.box(*segmenter.pyramid.tile_bounds(tile)).exterior for tile in segmenter.pyramid.grids[0]]
    return any(border.intersects(pixels) for border in borders)


@pytest.mark.parametrize("kind", ["box", "point"])
def test_joints_leave_no_mark(
    segmenters: list[Segmenter],
    roofs: list[shapely.Geometry],
    kind: str,
    record_property: pytest.RecordProperty,
) -> None:
    cut = [roof for roof in roofs if any(at_a_joint(segmenter, roof) for segmenter in segmenters)]
    prompts = [
        ObjectPrompts(str(index), box=shapely.box(*roof.bounds))
        if kind == "box"
        else ObjectPrompts(str(index), (Point(*shapely.maximum_inscribed_circle(roof).coords[0]),))
        for index, roof in enumerate(cut)
    ]
    answers = []
    for segmenter in segmenters:
        report = segment(segmenter, prompts, SegmentOptions())
        answers.append({item.object_id: item.result.geometry for item in report.results})
    common = sorted(set(answers[0]) & set(answers[1]), key=int)
    assert len(common) > 20 and len(common) >= 0.95 * len(cut)
    pairs = [(answers[0][name], answers[1][name]) for name in common]
    ious = np.array([a.intersection(b).area / a.union(b).area for a, b in pairs])
    summary = f"{kind}: {len(ious)} roofs at joints, mean IoU {ious.mean():.3f}, worst {ious.min():.3f}"
    record_property("joints", summary)
    print(summary)
    assert ious.mean() >= 0.93
