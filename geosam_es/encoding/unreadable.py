"""Why a raster cannot be opened, told from the file itself."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import RasterError
from ..store.raster_name import GdalName, RasterPath, gdal_text, shown, typed

__all__ = ["archive_name", "check_file", "explain"]

_HEAD_BYTES = 1024

_FORMATS = (
    (b"e\x02", "ECW", "ECW"),
    (b"e\x03", "ECW", "ECW"),
    (b"msid", "MrSID", "MrSID"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JPEG 2000", "JP2OpenJPEG"),
    (b"\x0e\x03\x13\x01", "HDF4", "HDF4"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", "HDF5"),
    (b"CDF\x01", "netCDF", "netCDF"),
    (b"CDF\x02", "netCDF", "netCDF"),
    (b"CDF\x05", "netCDF", "netCDF"),
    (b"GRIB", "GRIB", "GRIB"),
    (b"NITF", "NITF", "NITF"),
    (b"SIMPLE  =", "FITS", "FITS"),
    (b"AT&TFORM", "DjVu", "DJVU"),
    (b"\xff\x0a", "JPEG XL", "JPEGXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL", "JPEGXL"),
    (b"RIFF", "WebP", "WEBP"),
    (b"%PDF", "PDF", "PDF"),
    (b"\x89PNG", "PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG", "JPEG"),
)
"""First bytes of a file, the name of its format, and the GDAL driver that reads it."""

_HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
_SUFFIXES = {".ecw": ("ECW", "ECW"), ".sid": ("MrSID", "MrSID")}
_ARCHIVES = ((b"PK\x03\x04", "/vsizip/"), (b"\x1f\x8b", "/vsigzip/"))
_TAR = (257, b"ustar")
_WEB = (b"<!doctype html", b"<html")
_GIT_LFS = b"version https://git-lfs"
_DOCUMENTS = (b"%PDF", b"\xd0\xcf\x11\xe0", b"{\\rtf")
_OFFICE = ("[Content_Types].xml", "mimetype")
_CONVERT = "gdal_translate -of COG -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER"
"""The command that converts images of any type and size; JPEG compresses only 8 bits."""

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_VECTORS = (b"SQLite format 3\x00", b"\x00\x00\x27\x0a", b"fgb\x03", b"PAR1")


def check_file(path: RasterPath) -> None:
    """Check that there is a file to open, without opening it: a pipe would wait for ever.

    Raises
    ------
    RasterError
        If it is missing, cannot be read, or is not a file or a folder.
    """
    if isinstance(path, GdalName):
        return
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError as error:
        raise RasterError(
            "The name of {path} is not valid UTF-8, so GDAL cannot open it", "rename the file", path=shown(path)
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise RasterError(
                "{path} is a link to a file that does not exist", "correct the link", path=shown(path)
            ) from error
        raise RasterError("{path} does not exist", "check the path", path=shown(path)) from error
    except (OSError, ValueError) as error:
        raise RasterError(
            "{path} cannot be opened ({reason})",
            "check the path",
            path=shown(path),
            reason=getattr(error, "strerror", "") or error,
        ) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise RasterError(
            "{path} is a pipe, a device or a socket, not a file",
            "save the image to a file first",
            path=shown(path),
        )
    if not os.access(path, os.R_OK):
        raise RasterError("{path} cannot be read", "ask for permission to read it", path=shown(path))


def archive_name(path: RasterPath) -> str | None:
    """Return what GDAL opens if a file is an archive with one image; None if it is not an archive."""
    head = _head(path)
    if head[_TAR[0] :].startswith(_TAR[1]) or str(path).lower().endswith((".tar.gz", ".tgz")):
        return f"/vsitar/{gdal_text(path)}"
    return next((f"{kind}{gdal_text(path)}" for start, kind in _ARCHIVES if head.startswith(start)), None)


def explain(path: RasterPath, drivers: Collection[str]) -> RasterError:
    """Say why GDAL cannot open a raster.

    Parameters
    ----------
    path : Path or GdalName
    drivers : collection of str
        Short names of GDAL's drivers.
    """
    if isinstance(path, Path) and path.is_dir():
        return RasterError("{path} is a folder without images", "name an image", path=shown(path))
    head = _head(path)
    missing = _missing_driver(path, head, drivers)
    if missing:
        made = path.parent / f"{path.stem}_cog.tif"
        return RasterError(
            "{path} is in the format {format}, and this GDAL has no driver for it",
            "convert it with a GDAL that has one; QGIS for Windows reads ECW and MrSID (for 8-bit images "
            "COMPRESS=JPEG makes a smaller file): {command}",
            path=shown(path),
            format=missing,
            command=f"{_CONVERT} {typed(str(path))} {typed(str(made))}",
        )
    if isinstance(path, GdalName):
        return _explain_name(path)
    if not head:
        return RasterError(
            "{path} is not a raster that GDAL can read", "it is empty; copy or download it again", path=shown(path)
        )
    if head.startswith(_GIT_LFS):
        return RasterError(
            "{path} is not a raster that GDAL can read",
            "it is a pointer of Git LFS; get the image with git lfs pull",
            path=shown(path),
        )
    if head.lstrip().lower().startswith(_WEB):
        return RasterError(
            "{path} is not a raster that GDAL can read", "it is a web page; download the image itself", path=shown(path)
        )
    members = _members(path)
    if head.startswith(_DOCUMENTS) or any(name in members for name in _OFFICE):
        return RasterError(
            "{path} is not a raster that GDAL can read", "it is a document; name an image", path=shown(path)
        )
    if members:
        return _choose_member(path, path, members)
    if head.startswith(_VECTORS):
        return RasterError(
            "{path} is not a raster that GDAL can read", "it has no raster; name an image", path=shown(path)
        )
    if _is_text(head):
        return RasterError(
            "{path} is not a raster that GDAL can read", "it is a text file; name an image", path=shown(path)
        )
    return RasterError(
        "{path} is not a raster that GDAL can read", "check the file, or copy it again", path=shown(path)
    )


def _explain_name(path: GdalName) -> RasterError:
    if path.is_remote:
        return RasterError(
            "{path} is not a raster that GDAL can read",
            "check the address and the connection, or download it first",
            path=shown(path),
        )
    if path.file is None:
        return RasterError("{path} refers to a file that does not exist", "check the path", path=shown(path))
    members = _members(path.file)
    if members and path.text.startswith("/vsizip/"):
        return _choose_member(path, path.file, members)
    return RasterError(
        "{path} is not a raster that GDAL can read",
        "check the name; this lists the names in the file: {command}",
        path=shown(path),
        command=f"geosam-es encode {typed(str(path.file))}",
    )


def _choose_member(path: RasterPath, archive: Path, members: Sequence[str]) -> RasterError:
    member = next(filter(_is_image, members), members[0])
    return RasterError(
        "GDAL finds no single image in {path}",
        "name one of its files, such as {name}",
        path=shown(path),
        name=typed(f"/vsizip/{archive}/{member}"),
    )


def _head(path: RasterPath) -> bytes:
    if isinstance(path, GdalName):
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _missing_driver(path: RasterPath, head: bytes, drivers: Collection[str]) -> str:
    """Return the format of a file for which there is no driver; empty if there is one, or the format is unknown."""
    known = [(name, driver) for start, name, driver in _FORMATS if head.startswith(start)]
    if any(brand in head[:32] for brand in _HEIF):
        known.append(("HEIF", "HEIF"))
    suffix = Path(path.name).suffix.lower()
    if not known and not _is_text(head) and suffix in _SUFFIXES:
        known.append(_SUFFIXES[suffix])
    return next((name for name, driver in known if driver not in drivers), "")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile):
        return []


def _is_image(name: str) -> bool:
    return name.lower().endswith((".tif", ".tiff", ".jp2", ".vrt", ".img", ".png", ".jpg", ".jpeg"))


def _is_text(head: bytes) -> bool:
    return bool(head) and not _CONTROL.search(head)
