"""Names of rasters: a file, or anything else that GDAL opens, such as ``NETCDF:"a.nc":Band1``."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Union

__all__ = ["GdalName", "RasterPath", "gdal_text", "raster_path", "shown", "typed"]

_ARCHIVES = re.compile(r"(/vsi(?:zip|gzip|tar|7z|rar|subfile|sparse|crypt)/)+")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_+]+:")
_REMOTE = re.compile(r"/?vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|[A-Za-z][A-Za-z0-9+.]*://(?!/)|<")
_VRT_SCHEME = re.compile(r"vrt://", re.IGNORECASE)
_ENDS = re.compile(r"[:,?|]")
_NOT_IN_STEMS = re.compile(r"[^\w.-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INLINE = "inline.vrt"


@dataclass(frozen=True)
class GdalName:
    """A raster that is not simply a file: a subdataset, a file in an archive, a URL.

    Attributes
    ----------
    text : str
        What GDAL opens.
    file : Path, optional
        The local file that the raster is in; None if there is none, as for a URL.
    """

    text: str
    file: Path | None

    @property
    def is_remote(self) -> bool:
        """Whether the raster comes from a server, or has no file at all."""
        return bool(_REMOTE.match(_ARCHIVES.sub("", self.text))) and not _VRT_SCHEME.match(self.text)

    @property
    def name(self) -> str:
        """The text with the name of the file instead of its path."""
        if self.file is not None:
            return self.text.replace(self._in_text(self.file), self.file.name)
        return _INLINE if self.text.startswith("<") else _last_part(self.text)

    @property
    def stem(self) -> str:
        """A name for files made from the raster: that of the file with what is chosen in it, as in ``a_Band1``."""
        if self.file is None:
            return Path(_NOT_IN_STEMS.sub("_", self.name)).stem or "raster"
        before, _, after = self.text.partition(self._in_text(self.file))
        driver = _PREFIX.match(before)
        chosen = _ARCHIVES.sub("", before[driver.end() :]) if driver else ""
        inside = after if driver else str(PurePosixPath(after).with_suffix("")) if after.strip("/") else ""
        parts = (_NOT_IN_STEMS.sub("_", part).strip("_.") for part in (chosen, inside))
        return "_".join([self.file.stem, *(part for part in parts if part)])

    def _in_text(self, file: Path) -> str:
        """Return a file as the text has it, which may be with slashes on Windows."""
        return str(file) if str(file) in self.text else file.as_posix()

    @property
    def parent(self) -> Path:
        """The folder of the file; the current folder if there is no file."""
        return Path() if self.file is None else self.file.parent

    def __str__(self) -> str:
        """Return the text."""
        return self.text


RasterPath = Union[Path, GdalName]


def raster_path(text: str) -> RasterPath:
    """Return a file as a path, and anything else that GDAL opens as a `GdalName`.

    Examples
    --------
    >>> raster_path("maps/ortho.tif").stem
    'ortho'
    >>> raster_path("https://example.org/tiles/ortho.tif?key=1").stem
    'ortho'
    >>> raster_path("/vsicurl/https://example.org/ortho.tif").parent == Path()
    True
    """
    if os.path.lexists(text):
        return Path(text)
    name = GdalName(text, None)
    if name.is_remote:
        return name
    if text.startswith("/vsi") or _PREFIX.match(text):
        return GdalName(text, next(_files_in(text), None))
    return Path(text)


def gdal_text(path: RasterPath) -> str:
    """Return what GDAL opens. The path of a file becomes absolute, so that it is not taken for anything else."""
    return path.text if isinstance(path, GdalName) else str(Path.cwd() / path)


def typed(text: str) -> str:
    """Return a name as it is typed on a command line."""
    return shlex.quote(text) if os.name == "posix" else '"{}"'.format(text.replace('"', '\\"'))


def shown(path: RasterPath) -> str:
    """Return a name for a message, in one line."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(path))


def _files_in(text: str) -> Iterator[Path]:
    """Yield the local files that are named in a text, the longest name first."""
    archive = _ARCHIVES.search(text)
    if archive:
        text = text[archive.end() :]
        if text.startswith("{"):
            text = text[1:].replace("}", "", 1)
    quoted = re.search(r'"([^"]+)"', text)
    starts = [quoted[1]] if quoted else [text]
    if not quoted and not archive:
        starts = [text[match.end() :] for match in re.finditer(":(?://)?", text)]
    for start in starts:
        for end in (len(start), *(match.start() for match in reversed(list(_ENDS.finditer(start))))):
            path = Path(start[:end])
            yield from filter(os.path.isfile, (path, *(path.parents if archive else ())))


def _last_part(text: str) -> str:
    parts = [part for part in re.split(r"[/\\]", text.partition("?")[0]) if part]
    return parts[-1] if parts else text
