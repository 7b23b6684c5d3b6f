"""``geosam-es catalog`` as a user runs it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from encoder_tools.crs import reproject
from encoder_tools.vector import read_vector
from tests.encoder_tools.conftest import Ortho, Run

FOOTPRINT = shapely.box(700_000, 4_399_900, 700_150, 4_400_000)


def test_footprints_of_all_stores(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    second = tmp_path / "more" / "far"
    shutil.copytree(ortho.image.parent, second)
    store = second / ortho.store.name
    shutil.rmtree(store / "level0" / "image_embeddings" / "c")
    catalog = tmp_path / "maps" / "catalog.gpkg"
    catalog.parent.mkdir()
    command = ("catalog", tmp_path, ortho.store, "-o", catalog)
    assert run(*command).stdout == f"{catalog}: 2 stores, 1 complete\n"
    layer = read_vector(catalog)
    assert list(layer.field("store")) == ["../more/far/ortho.embeddings.zarr", "../ortho/ortho.embeddings.zarr"]
    assert list(layer.field("raster")) == ["../more/far/ortho.tif", "../ortho/ortho.tif"]
    assert list(layer.field("state")) == ["incomplete", "complete"]
    assert [list(layer.field(name)) for name in ("tiles_done", "tiles", "model")] == [[0, 1], [1, 1], ["bright"] * 2]
    assert all(shapely.equals(geometry, FOOTPRINT) for geometry in layer.geometries)
    assert run(*command).exit_code == 2
    # A catalogue names the images to go on with.
    again = run("encode", catalog, "--model", ortho.image.parents[1] / "none", "--resume")
    assert again.exit_code == 2 and "unknown model" in again.stderr


def test_stores_of_several_crs_and_damaged_ones(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    for name in ("other", "broken"):
        shutil.copytree(ortho.image.parent, tmp_path / name)
    assert run("info", tmp_path / "other" / ortho.store.name, "--set-crs", "EPSG:25831").exit_code == 0
    (tmp_path / "broken" / ortho.store.name / "zarr.json").write_text("{")
    catalog = tmp_path / "catalog.gpkg"
    result = run("catalog", tmp_path, "-o", catalog, "--json")
    assert result.exit_code == 1 and len(json.loads(result.stdout)) == 2
    assert len(result.stderr.splitlines()) == 1 and "broken" in result.stderr
    layer = read_vector(catalog)
    assert layer.crs is not None and layer.crs.to_epsg() == 4326
    for geometry, store in zip(layer.geometries, layer.field("store")):
        crs = 25831 if store.startswith("other") else 25830
        back = reproject(np.array([geometry], dtype=object), layer.crs, layer.crs.from_epsg(crs))[0]
        assert shapely.hausdorff_distance(back, FOOTPRINT) < 0.01
    empty = tmp_path / "nothing"
    empty.mkdir()
    refused = run("catalog", empty, "-o", catalog, "--overwrite")
    assert refused.exit_code == 2 and "has no stores" in refused.stderr


def test_a_store_in_a_local_crs_does_not_stop_the_others(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    """A site plan has no place on the globe."""
    shutil.copytree(ortho.image.parent, tmp_path / "site")
    catalog, store = tmp_path / "catalog.gpkg", tmp_path / "site" / ortho.store.name
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert run("info", store, "--set-crs", local).exit_code == 0
    result = run("catalog", tmp_path, "-o", catalog)
    assert result.exit_code == 1 and "site/ortho.embeddings.zarr" in result.stderr
    layer = read_vector(catalog)
    assert list(layer.field("store")) == ["ortho/ortho.embeddings.zarr"]
    assert layer.crs is not None and layer.crs.to_epsg() == 25830
    points = ("--point", "700060,4399950", "-o", tmp_path / "out.gpkg")
    found = run("segment", tmp_path, *points)
    assert found.exit_code == 1 and f"Error: {store}: " in found.stderr and "1 of 2 stores" in found.stderr
    assert run("catalog", store, "-o", tmp_path / "site.gpkg").exit_code == 0


def test_linked_folders_are_searched_and_work_folders_are_not(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    stores, elsewhere = tmp_path / "stores", tmp_path / "disk2"
    shutil.copytree(ortho.image.parent, stores / "here")
    shutil.copytree(ortho.image.parent, elsewhere)
    (stores / "there").symlink_to(elsewhere)
    (stores / "there" / "back").symlink_to(stores)
    # What `encode --overwrite` leaves for a while.
    shutil.copytree(ortho.store, stores / "here" / ".1a2b3c4d")
    catalog = tmp_path / "catalog.gpkg"
    assert run("catalog", stores, "-o", catalog).exit_code == 0
    assert sorted(Path(store).parent.name for store in read_vector(catalog).field("store")) == ["here", "there"]


def test_a_folder_that_may_not_be_read_is_named(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, scandir = tmp_path / "closed", os.scandir
    closed.mkdir()

    def refuse(path: Any) -> Any:
        # Root may read everything.
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(closed))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = run("catalog", tmp_path, "-o", tmp_path / "catalog.gpkg")
    assert result.exit_code == 2 and f"{closed} cannot be read" in result.stderr
