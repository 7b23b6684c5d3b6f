"""What a virtual raster or a tile index refers to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geosam_es.encoding.mosaic import Source, TileIndex, check_exists, find_unreadable, vrt_sources
from geosam_es.errors import RasterError


def write_vrt(path: Path, *sources: str) -> Path:
    path.write_text(f"<VRTDataset rasterXSize='9'>{''.join(sources)}</VRTDataset>")
    return path


def source(name: str, relative: int = 1, more: str = "") -> str:
    return f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>{more}'


def test_sources_with_their_sizes(tmp_path: Path) -> None:
    size = '<SourceBand>1</SourceBand>\n<SourceProperties RasterXSize="5" RasterYSize="4" DataType="Byte"/>'
    inner = write_vrt(tmp_path / "inner.VRT", source("c&amp;d.tif", more=size))
    outer = write_vrt(
        tmp_path / "outer.vrt",
        source("inner.VRT"),
        source("/maps/a.tif", 0),
        source('NETCDF:"/maps/a.nc":Band1', 0),
        "<!--" + source("comment.tif") + "-->",
        '<SourceDataset relativeToVRT="1">w.tif</SourceDataset>',
    )
    assert list(vrt_sources(outer)) == [
        Source(str(inner)),
        Source(str(tmp_path / "c&d.tif"), (5, 4)),
        Source("/maps/a.tif"),
        Source('NETCDF:"/maps/a.nc":Band1'),
        Source(str(tmp_path / "w.tif")),
    ]


def test_rasters_that_refer_to_themselves(tmp_path: Path) -> None:
    path = write_vrt(tmp_path / "a.vrt", source("a.vrt"))
    assert list(vrt_sources(path)) == [Source(str(path))]


def test_other_files_have_no_sources(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\x00<SourceFilename>a</SourceFilename>")
    assert list(vrt_sources(tmp_path / "a.tif")) == [] == list(vrt_sources(tmp_path / "none.vrt"))


@pytest.mark.parametrize(
    "lost", ["gone.tif", "/vsizip/gone.zip/a.tif", 'NETCDF:"gone.nc":Band1', "/vsigzip/gone.gz", "x" * 5000]
)
def test_lost_sources(tmp_path: Path, lost: str) -> None:
    with pytest.raises(RasterError) as caught:
        check_exists(tmp_path / "a.vrt", Source(lost))
    assert f"a.vrt refers to {lost}, which does not exist" in caught.value.user_message


def test_sources_that_may_be_there() -> None:
    for name in (__file__, "/vsicurl/http://localhost/a.tif", "https://localhost/a.tif", "<VRTDataset/>", "WMS:http"):
        check_exists(Path("a.vrt"), Source(name))


def test_damaged_and_changed_sources(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    there = Source(str(tmp_path / "a.tif"), (5, 4))

    def fail(name: str) -> tuple[int, int]:
        raise OSError(name)

    assert find_unreadable(Path("a.vrt"), [there], lambda _: (5, 4)) is None
    assert "a.tif, which GDAL cannot read" in str(find_unreadable(Path("a.vrt"), [there], fail))
    assert "a.tif, which now has another size" in str(find_unreadable(Path("a.vrt"), [there], lambda _: (5, 5)))
    lost = Source(str(tmp_path / "b.tif"))
    assert "b.tif, which does not exist" in str(find_unreadable(Path("a.vrt"), [there, lost], lambda _: (5, 4)))


def test_tiles_that_touch_an_extent() -> None:
    bounds = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10]], dtype=np.float64)
    index = TileIndex(Path("maps"), ["a.tif", "/b.tif", "/vsizip/c.zip"], bounds)
    assert index.tiles == [Source("maps/a.tif"), Source("/b.tif"), Source("/vsizip/c.zip")]
    assert [tile.name for tile in index.touching((11, 2, 12, 3))] == ["/b.tif"]
    assert [tile.name for tile in index.touching((-5, -5, 25, 20))] == ["maps/a.tif", "/b.tif", "/vsizip/c.zip"]
    assert list(index.touching((40, 0, 50, 10))) == []
