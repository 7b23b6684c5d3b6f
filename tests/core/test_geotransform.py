from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from geosam_es.core.geotransform import GeoTransform

coefficient = st.floats(-100, 100).filter(lambda v: abs(v) > 1e-3)
place = st.floats(-1e6, 1e6)


@given(coefficient, place, coefficient, place, st.floats(-80, 80), place, place)
def test_agrees_with_rasterio_and_inverts(
    a: float, c: float, e: float, f: float, degrees: float, col: float, row: float
) -> None:
    affine = Affine.translation(c, f) @ Affine.rotation(degrees) @ Affine.scale(a, e)
    transform = GeoTransform.from_sequence(affine)
    x, y = transform.apply(col, row)
    assert (x, y) == pytest.approx(affine @ (col, row), rel=1e-9, abs=1e-6)
    back = transform.inverse().apply(x, y)
    assert back == pytest.approx((col, row), rel=1e-6, abs=1e-2)
    assert transform.pixel_size == pytest.approx(np.sqrt(abs(a * e)), rel=1e-9)


def test_geometries_keep_their_holes() -> None:
    transform = GeoTransform(2.0, 0.0, 10.0, 0.0, -2.0, 20.0)
    hole = shapely.box(1, 1, 2, 2)
    polygon = shapely.Polygon(shapely.box(0, 0, 4, 4).exterior, [hole.exterior])
    mapped = transform.apply_geometry(polygon)
    assert mapped.bounds == (10.0, 12.0, 18.0, 20.0)
    assert mapped.area == pytest.approx(polygon.area * 4)
