"""Settings keep their types and survive invalid values."""

from __future__ import annotations

import pytest
from qgis.core import QgsSettings

from geosam_es.qgis_support.settings import Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("simplify_pixels", 2.5), ("right_angles", True), ("fill_opacity", 80), ("outline_colour", "#102030")],
)
def test_values_keep_their_type(name: str, value: object) -> None:
    setattr(Settings(), name, value)
    QgsSettings().sync()
    stored = getattr(Settings(), name)
    assert stored == value
    assert type(stored) is type(value)


def test_a_value_of_another_type_falls_back_to_the_default() -> None:
    QgsSettings().setValue("geosam_es/fill_opacity", "a lot")
    assert Settings().fill_opacity == 35


def test_recent_stores_are_distinct_limited_and_the_latest_first() -> None:
    settings = Settings()
    for number in range(12):
        settings.remember_store(f"/data/{number}")
    settings.remember_store("/data/9")
    assert settings.recent_stores == [f"/data/{number}" for number in (9, 11, 10, 8, 7, 6, 5, 4)]
    settings.forget_store("/data/11")
    assert "/data/11" not in settings.recent_stores


def test_a_single_recent_store_is_a_list_too() -> None:
    QgsSettings().setValue("geosam_es/recent_stores", "/data/one")
    assert Settings().recent_stores == ["/data/one"]


def test_a_tolerance_in_units_of_a_layer_is_not_read_as_metres() -> None:
    QgsSettings().setValue("geosam_es/snap_tolerance", 0.01)
    assert Settings().snap_m == 0.0
