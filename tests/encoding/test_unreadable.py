"""Files that GDAL cannot open: what they are, and what to do."""

from __future__ import annotations

import os
import socket
import zipfile
from pathlib import Path

import pytest

from geosam_es.encoding.unreadable import archive_name, check_file, explain
from geosam_es.errors import RasterError
from geosam_es.store.raster_name import raster_path

DRIVERS = {"GTiff", "HDF5", "PNG", "PDF"}

KINDS = [
    ("e\x02\x01\x02\x00", "is in the format ECW, and this GDAL has no driver for it: convert it"),
    ("msid\x01\x00", "is in the format MrSID, and"),
    ("\x00\x00\x00\x0cjP  \r\n\x87\n", "is in the format JPEG 2000, and"),
    ("\xffO\xffQ\x00", "is in the format JPEG 2000, and"),
    ("\x0e\x03\x13\x01\x00", "is in the format HDF4, and"),
    ("CDF\x01", "is in the format netCDF, and"),
    ("\x00\x00\x00\x1cftypheic\x00", "is in the format HEIF, and"),
    ("\x89HDF\r\n\x1a\n\x00", "is not a raster that GDAL can read: check the file, or copy it again"),
    ("\x89PNG\r\n\x1a\n\x00", "is not a raster that GDAL can read: check the file, or copy it again"),
    ("", "is not a raster that GDAL can read: it is empty"),
    ("\n <!DOCTYPE HTML><html>404</html>", "it is a web page; download the image itself"),
    ("<html>", "it is a web page"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:a", "it is a pointer of Git LFS"),
    ("%PDF-1.4\n", "it is a document"),
    ("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "it is a document"),
    ("SQLite format 3\x00", "it has no raster"),
    ("hello", "it is a text file"),
    ("\x00\x01\x02\x03", "check the file, or copy it again"),
]


@pytest.mark.parametrize(("content", "message"), KINDS)
def test_the_content_tells_what_a_file_is(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content.encode("latin-1"))
    found = explain(path, DRIVERS).user_message
    assert found.startswith(f"{path} is ") and message in found and "\n" not in found


def test_the_command_that_converts(tmp_path: Path) -> None:
    path = tmp_path / "my map.ecw"
    path.write_bytes(b"\x00unknown version")
    text = explain(path, DRIVERS).remedy
    command = "gdal_translate -of COG -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER"
    assert text.endswith(f"{command} '{path}' '{tmp_path / 'my map_cog.tif'}'") or os.name != "posix"
    assert "COMPRESS=JPEG" in text
    assert explain(path, DRIVERS | {"ECW"}).remedy == "check the file, or copy it again"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("/vsicurl/https://localhost/a.ecw", "a_cog.tif"),
        ("https://localhost/maps/b.SID?key=1", "b_cog.tif"),
        ("ecwp://localhost/c.ecw", "c_cog.tif"),
    ],
)
def test_a_format_without_a_driver_is_told_from_a_name_too(text: str, made: str) -> None:
    error = explain(raster_path(text), DRIVERS)
    assert "and this GDAL has no driver for it" in error.user_message and error.remedy.endswith(f" {made}")
    assert "check the address" in explain(raster_path(text), DRIVERS | {"ECW", "MrSID"}).remedy


def test_a_format_without_a_driver_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        archive.writestr("sub/b.ecw", "b")
    inside = explain(raster_path(f"/vsizip/{tmp_path}/maps.zip/sub/b.ecw"), DRIVERS)
    assert "is in the format ECW" in inside.user_message
    assert inside.remedy.endswith(f" {tmp_path / 'maps_sub_b_cog.tif'}") or os.name != "posix"


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "maps.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("read.me", "a")
        archive.writestr("sub/b.tif", "b")
    for text in (str(path), f"/vsizip/{path}", f"/vsizip/{path}/none.tif"):
        assert f"such as /vsizip/{path}/sub/b.tif" in explain(raster_path(text), DRIVERS).user_message
    assert archive_name(path) == f"/vsizip/{path}"
    word = tmp_path / "a.docx"
    with zipfile.ZipFile(word, "w") as archive:
        archive.writestr("[Content_Types].xml", "a")
    assert "it is a document" in explain(word, DRIVERS).user_message
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b")
    assert archive_name(tmp_path / "a.gz") == f"/vsigzip/{tmp_path / 'a.gz'}"
    assert archive_name(word.with_name("none.tif")) is None


def test_names_that_gdal_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "a.nc").touch()
    inside = explain(raster_path(f'NETCDF:"{tmp_path}/a.nc":B'), DRIVERS)
    assert inside.user_message.endswith(f"geosam-es encode {tmp_path}/a.nc")
    assert "does not exist" in explain(raster_path('NETCDF:"none.nc":B'), DRIVERS).user_message
    assert "check the address" in explain(raster_path("https://localhost/a.tif"), DRIVERS).user_message


def refused(path: Path) -> str:
    with pytest.raises(RasterError) as caught:
        check_file(path)
    return caught.value.user_message


@pytest.mark.skipif(os.name != "posix", reason="pipes and links of POSIX")
def test_what_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with socket.socket(socket.AF_UNIX) as server:
        # The path of a socket must be short.
        monkeypatch.chdir(tmp_path)
        server.bind("socket.tif")
        for path in (tmp_path / "pipe.tif", Path("/dev/null"), Path("socket.tif")):
            assert "is a pipe, a device or a socket, not a file: save the image to a file first" in refused(path)
    (tmp_path / "link.tif").symlink_to("none")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    assert refused(tmp_path / "link.tif").endswith("is a link to a file that does not exist: correct the link")
    assert "loop.tif cannot be opened (" in refused(tmp_path / "loop.tif")
    assert refused(tmp_path / "none.tif").endswith("none.tif does not exist: check the path")
    assert "does not exist" in refused(tmp_path / "link.tif" / "a.tif")
    assert "File name too long" in refused(tmp_path / ("x" * 300))
    assert "is not valid UTF-8, so GDAL cannot open it: rename" in refused(tmp_path / os.fsdecode(b"\xf1.tif"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.touch()
    path.chmod(0)
    assert refused(path).endswith("cannot be read: ask for permission to read it")
