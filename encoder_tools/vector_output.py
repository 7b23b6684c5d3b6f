"""Writing polygons to vector files with pyogrio.

A file is made in a temporary folder under a plain name, because GDAL and pyogrio take some characters for a URI, an
archive or an option. What is read back must equal what was to be written; only then is the file moved into place.
`check_output` makes such a file from the attributes alone, so that nearly every failure comes before the work.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from shapely.geometry.base import BaseGeometry

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import OutputError
from geosam_es.store.files import replace_files, temporary_name

from .attributes import as_text, differs, in_own_types, split_time_zones
from .crs import same_crs
from .vector_formats import JOURNALS, SHAPEFILE_PARTS, default_crs, vector_format

__all__ = ["check_output", "keeps_layer", "lost_heights", "write_vector"]

Fields = Mapping[str, NDArray[Any]]
_State = list[tuple[int, int]]


_PLAIN = re.compile(r"[\w/ .-]*")
"""Paths that mean the same to the file system, pyogrio and GDAL."""

_GROWING = ("GPKG", "SQLite", "ESRI Shapefile")
"""Drivers that add features to a file without reading the others."""

_MOST_SHAPEFILE_BYTES = 2**31 - 1
_LOCK_WAIT_S = 0.5
_BOX = shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])


def keeps_layer(path: Path, kept: str | None, layer: str) -> bool:
    """Tell whether writing a layer leaves another one of an existing file, or all of them, as they are."""
    if not vector_format(path).has_layers:
        return False
    names = [kept] if kept else list(_layers(path))
    return bool(names) and layer.lower() not in (name.lower() for name in names)


def lost_heights(source: Path | str, path: Path) -> str:
    """Return a sentence about the Z values of a layer, which are not written."""
    return f"the Z values of {source} are not written to {path}"


def check_output(
    path: Path,
    crs: pyproj.CRS,
    fields: Fields | None = None,
    *,
    overwrite: bool = False,
    append: bool | None = False,
    layer: str = "",
    copies: int = 1,
) -> list[str]:
    """Check, before any work is done, that a vector file can be written.

    Parameters
    ----------
    path : Path
    crs : pyproj.CRS
    fields : mapping of str to (N,), optional
        Attributes that will be written.
    overwrite, append, layer
        As for `write_vector`. None for ``append`` if the command has neither --append nor --out-crs to advise.
    copies : int
        How often each row of ``fields`` may be written.

    Returns
    -------
    list of str
        Names of fields that will be written as text, since the format cannot hold their values otherwise.

    Raises
    ------
    OutputError
        If the format is unknown or cannot hold the CRS or the values, the path cannot be written to, or the file
        exists and is to be neither replaced nor extended.
    """
    _check_path(path, overwrite, append, layer)
    only = default_crs(path)
    if only is not None and not _is_same(crs, only):
        raise _crs_error(path, crs, has_option=append is not None)
    count = max((len(column) for column in (fields or {}).values()), default=0)
    with _build(path, [_BOX] * max(count, 1), fields or {}, crs, bool(append), layer) as (made, as_texts):
        size = max(file.stat().st_size for file in made)
    if vector_format(path).driver == "ESRI Shapefile" and size * copies > _MOST_SHAPEFILE_BYTES:
        raise OutputError(f"{path} would be larger than the 2 GB of a Shapefile", "write a .gpkg")
    return as_texts


def write_vector(
    path: Path,
    geometries: Sequence[BaseGeometry],
    fields: Fields,
    crs: pyproj.CRS,
    *,
    overwrite: bool = True,
    append: bool = False,
    layer: str = "",
    more: Iterable[tuple[Sequence[BaseGeometry], Fields]] = (),
) -> None:
    """Write polygons, all as multipolygons, so that the layer has one type.

    The file is made in a temporary folder, read back, and moved into place if it is complete. An older file is
    replaced; of a database, such as a GeoPackage, only the layer is replaced.

    Parameters
    ----------
    path : Path
        Its extension gives the format.
    geometries : sequence of Polygon or MultiPolygon
    fields : mapping of str to (N,)
        Values that are masked become NULL.
    crs : pyproj.CRS
    overwrite : bool
        Without it, and without ``append``, a file that another program has made since `check_output` is not replaced.
    append : bool
        Add the polygons to the layer if it exists.
    layer : str
        Name of the layer in a database. Default: that of the file.
    more : iterable of (geometries, fields)
        Further polygons with the same fields. They are written as they come if the format can grow.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing of it is left, and an older one is unchanged.
    """
    if vector_format(path).driver not in _GROWING:
        for part, columns in more:
            geometries = [*geometries, *part]
            fields = {name: np.concatenate((column, columns[name])) for name, column in fields.items()}
        more = ()
    built = _build(path, _multi(geometries), fields, crs, append, layer, more, overwrite=overwrite)
    with built as (made, _), _output_errors(path):
        target = _target(path)
        named = []
        for file in made:
            ending = file.name[file.name.index(".") :]
            is_upper = path.suffix.isupper() and ending in SHAPEFILE_PARTS
            is_main = ending == path.suffix.lower()
            if is_main and target.exists():
                shutil.copymode(target, file)
            name = target.name if is_main else target.stem + (ending.upper() if is_upper else ending)
            named.append(file.rename(file.with_name(name)))
        chosen = vector_format(path)
        endings = [*chosen.companions, *map(str.upper, chosen.companions)]
        obsolete = [target.with_name(target.stem + ending) for ending in endings]
        obsolete += [target.with_name(target.name + ending) for ending in chosen.sidecars]
        replace_files(sorted(named), target.parent, obsolete)


def _multi(geometries: Iterable[BaseGeometry]) -> list[shapely.MultiPolygon]:
    return [shapely.MultiPolygon(polygon_parts(geometry)) for geometry in geometries]


def _target(path: Path) -> Path:
    """Return the path without links, so that a linked file is replaced and not its link."""
    return Path(os.path.realpath(path))


def _check_path(path: Path, overwrite: bool, append: bool | None, layer: str) -> None:
    chosen = vector_format(path)
    if chosen.driver == "ESRI Shapefile" and path.suffix not in (".shp", ".SHP"):
        raise OutputError(f"GDAL does not open a Shapefile called {path.name}", "use the extension .shp or .SHP")
    if overwrite and append:
        raise OutputError("--overwrite and --append exclude each other", "give one of them")
    if append and not chosen.can_append:
        raise OutputError(f"Nothing can be appended to {path}, a {path.suffix} file", "write a .gpkg")
    if layer and not chosen.has_layers:
        raise OutputError(f"{path} has no layers with names", "leave out --out-layer, or write a .gpkg")
    if layer and layer != _valid_layer_name(layer):
        raise OutputError(f"{layer} cannot be the name of a layer", f"use a name such as {_valid_layer_name(layer)}")
    target = _target(path)
    with _output_errors(path):
        # Unlike `Path.exists`, this fails if there can be no such file.
        try:
            exists = target.lstat() is not None
        except (FileNotFoundError, NotADirectoryError):
            exists = False
    if not target.parent.is_dir():
        raise OutputError(f"The folder of {path} does not exist", "create it, or choose another one with -o")
    if target.is_dir():
        raise OutputError(f"{path} is a folder", "choose another name with -o")
    others = [target.with_name(target.stem + ending) for ending in chosen.companions]
    # A table, or what belongs to an image of the same name.
    in_the_way = [] if exists or overwrite else [str(other) for other in others if other.exists()]
    if in_the_way or (exists and not (overwrite or append)):
        raise OutputError(
            f"{in_the_way[0] if in_the_way else path} already exists",
            "choose another name, or replace it with --overwrite"
            if append is None
            else "choose another name with -o, replace it with --overwrite, or add to it with --append",
        )
    if exists and not os.access(target, os.W_OK):
        raise OutputError(f"{path} is write-protected", "remove the protection, or choose another name with -o")


@contextmanager
def _build(
    path: Path,
    geometries: Sequence[BaseGeometry],
    fields: Fields,
    crs: pyproj.CRS,
    append: bool,
    layer: str,
    more: Iterable[tuple[Sequence[BaseGeometry], Fields]] = (),
    overwrite: bool = True,
) -> Iterator[tuple[list[Path], list[str]]]:
    """Make the files in a temporary folder beside their target, and check them.

    Yields
    ------
    made : list of Path
    as_texts : list of str
        Fields that are written as text, since the format cannot hold their values otherwise.
    """
    with _output_errors(path):
        target = _target(path)
        folder = temporary_name(target.parent)
        folder.mkdir()
    try:
        with _output_errors(path), _plain_path(folder) as plain:
            as_texts = [name for name, column in fields.items() if not _is_plain(path, column)]
            for _ in range(2):
                made = plain / f"{_plain_stem(path)}{path.suffix.lower()}"
                columns = {name: as_text(column) if name in as_texts else column for name, column in fields.items()}
                changed, copied = _write(path, made, geometries, columns, crs, append, layer)
                if not changed:
                    break
                _refuse_text(path, changed, columns)
                as_texts += changed
            if changed:
                raise OutputError(
                    f"{path} cannot hold the values of the field {changed[0]} unchanged",
                    _other_format(path, "change them"),
                )
        for part, further in more:
            with _output_errors(path), _plain_path(folder) as plain:
                columns = {name: as_text(column) if name in as_texts else column for name, column in further.items()}
                _grow(path, plain / made.name, _multi(part), columns, crs, layer)
        # What `more` computes may take hours. Another program's changes to the original are not in the copy.
        found = _state(path)
        is_new = bool(found) and (not copied or not (overwrite or append))
        if is_new or (found != copied and (append or vector_format(path).has_layers)):
            raise OutputError(
                f"{path} was changed by another program meanwhile, and nothing was written",
                f"{'move it away' if is_new else 'close it there'}, and run the command again, geosam-es auto with"
                " --resume",
            )
        yield sorted(file for file in folder.iterdir() if not file.name.endswith((*JOURNALS, ".gfs"))), as_texts
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_text(path: Path, changed: Sequence[str], columns: Fields) -> None:
    for name in changed:
        if columns[name].dtype == object and all(value is None or isinstance(value, str) for value in columns[name]):
            longest = max(len((value or "").encode("utf-8", "replace")) for value in columns[name])
            too_long = longest > 254 and path.suffix.lower() == ".shp"
            reason = f"{longest} bytes, and a Shapefile holds 254" if too_long else "text that would be changed"
            raise OutputError(
                f"{path} cannot hold the field {name} ({reason})", _other_format(path, "change its values")
            )


def _write(
    path: Path,
    made: Path,
    geometries: Sequence[BaseGeometry],
    fields: Fields,
    crs: pyproj.CRS,
    append: bool,
    layer: str,
) -> tuple[list[str], _State]:
    """Write a file and read it back.

    Returns
    -------
    changed : list of str
        Fields whose values are not as they should be.
    copied : list
        State of the existing file, as it was copied.
    """
    chosen, copied = vector_format(path), _state(path)
    for file in made.parent.iterdir():
        file.unlink()
    name: str | None = None
    names: list[str] = []
    if _target(path).exists() and (append or chosen.has_layers):
        copied = _copy(path, made)
        kinds = _layers(made)
        rasters = _raster_tables(made) if chosen.has_layers else []
        if not kinds and rasters:
            raise OutputError(f"{path} holds rasters and no vector layers", "choose another name with -o")
        if append and not kinds and made.stat().st_size:
            raise OutputError(
                f"{path} is not a file that GDAL can read", "check the file, or replace it with --overwrite"
            )
        if not kinds:
            made.unlink()
        names = list(kinds)
        name = _layer_in(path, {**kinds, **dict.fromkeys(rasters)}, layer)
    before = _read(made, name) if append and name in names else None
    if before is not None and not before.fields and not len(before.geometries):
        # Some formats keep nothing of a layer without features.
        made.unlink()
        before = None
    if before is not None:
        fields = _in_order(path, before, fields, len(geometries))
        _check_matches(path, before, crs)
    elif chosen.has_layers:
        name = name or layer or _valid_layer_name(path.stem)
    split = {key: split_time_zones(column) for key, column in fields.items()}
    masks = [np.ma.getmaskarray(c) if np.ma.isMaskedArray(c) else None for c in fields.values()]
    # The raw interface takes WKB, and a layer of no features as well.
    with warnings.catch_warnings():
        # What GDAL warns of is found by reading the file.
        warnings.simplefilter("ignore")
        pyogrio.raw.write(
            made,
            np.array([shapely.to_wkb(geometry) for geometry in geometries], dtype=object),
            [np.ma.getdata(column) for column, _ in split.values()],
            list(fields),
            masks,
            layer=name if chosen.has_layers else None,
            geometry_type="MultiPolygon" if before is None else before.kind,
            crs=_crs_text(crs.to_wkt()),
            driver=chosen.driver,
            encoding="UTF-8" if before is None else None,
            append=before is not None,
            layer_options=dict(chosen.options) if before is None else None,
            dataset_options=None if made.exists() else dict(chosen.file_options),
            gdal_tz_offsets={key: flags for key, (_, flags) in split.items() if flags is not None},
        )
    if not geometries:
        # Some formats have no fields, and others not even a CRS, without features.
        return [], copied
    return _changes(path, _read(made, name), before, geometries, fields, crs), copied


def _grow(
    path: Path, made: Path, geometries: Sequence[BaseGeometry], fields: Fields, crs: pyproj.CRS, layer: str
) -> None:
    """Add polygons to the layer of a file that was just made."""
    name = _layer_in(path, _layers(made), layer) if vector_format(path).has_layers else None
    before = pyogrio.read_info(made, layer=name)["features"]
    pyogrio.raw.write(
        made,
        np.array([shapely.to_wkb(geometry) for geometry in geometries], dtype=object),
        list(fields.values()),
        list(fields),
        layer=name,
        geometry_type="MultiPolygon",
        crs=_crs_text(crs.to_wkt()),
        driver=vector_format(path).driver,
        append=True,
    )
    if pyogrio.read_info(made, layer=name)["features"] != before + len(geometries):
        raise OSError("the file is incomplete")


@dataclass(frozen=True)
class _Content:
    geometries: NDArray[np.object_]
    fields: Fields
    crs: pyproj.CRS | None
    kind: str


def _read(path: Path, layer: str | None) -> _Content:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = partial(pyogrio.raw.read, path, layer=layer, return_fids=True)
        meta, ids, wkb, columns = read()
        fields = in_own_types(read, meta, ids, columns)
    crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    return _Content(shapely.from_wkb([] if wkb is None else wkb), fields, crs, str(meta["geometry_type"]))


def _changes(
    path: Path,
    found: _Content,
    before: _Content | None,
    geometries: Sequence[BaseGeometry],
    fields: Fields,
    crs: pyproj.CRS,
) -> list[str]:
    """Compare what was read with what was written; on a full disk, GDAL truncates some formats without an error."""
    if found.crs is None or not _is_same(crs, found.crs):
        raise _crs_error(path, crs)
    old = 0 if before is None else len(before.geometries)
    wanted = np.array(geometries, dtype=object)
    is_whole = len(found.geometries) == old + len(wanted) and not shapely.is_missing(found.geometries).any()
    if not is_whole or not np.allclose(shapely.bounds(wanted), shapely.bounds(found.geometries[old:]), 1e-9, 1e-6):
        raise OSError("the file is incomplete")
    if before is not None:
        lost = any(differs(column, found.fields[name][:old]) for name, column in before.fields.items())
        if lost or not shapely.equals(before.geometries, found.geometries[:old]).all():
            raise OSError("its older polygons would change")
    by_name = {name.lower(): column[old:] for name, column in found.fields.items()}
    return [
        name for name, column in fields.items() if name.lower() not in by_name or differs(column, by_name[name.lower()])
    ]


@lru_cache(maxsize=8)
def _crs_text(wkt: str) -> str:
    """Return the EPSG code of a CRS, which takes a while to find; or else its WKT."""
    crs = pyproj.CRS.from_wkt(wkt)
    code = crs.to_epsg()
    if code:
        return f"EPSG:{code}"
    if crs.to_json_dict().get("conversion", {}).get("id"):
        # From the code of a UTM zone in WKT 2, GDAL takes the CRS to be in metres, whatever its unit.
        with suppress(CRSError):
            return str(crs.to_wkt("WKT1_GDAL"))
    return wkt


def _is_same(wanted: pyproj.CRS, found: pyproj.CRS) -> bool:
    if wanted.equals(found, ignore_axis_order=True) or same_crs(wanted.to_wkt(), found.to_wkt()):
        return True
    if wanted.to_json_dict().get("id") == found.to_json_dict().get("id") is not None:
        # PROJ reads the WKT 1 of some codes, such as EPSG:32662, as a CRS of another method.
        return True
    if wanted.datum is None or "unknown" not in wanted.datum.name.lower():
        return False
    # Some formats rename a datum that has no name. A PROJ string does not have it, but is incomplete otherwise.
    with warnings.catch_warnings(), suppress(CRSError):
        warnings.simplefilter("ignore")
        return bool(wanted.to_dict() == found.to_dict())
    return False


def _check_matches(path: Path, before: _Content, crs: pyproj.CRS) -> None:
    if before.crs is None or not _is_same(crs, before.crs):
        known = "no CRS" if before.crs is None else f"the CRS {before.crs.name}"
        raise OutputError(f"{path} has {known}, not {crs.name}", "choose the CRS of the file with --out-crs")
    same = ("MultiPolygon", "Unknown", "Polygon") if path.suffix.lower() == ".shp" else ("MultiPolygon", "Unknown")
    if before.kind not in same:
        raise OutputError(f"{path} has geometries of the type {before.kind}, not MultiPolygon", "write another file")


def _in_order(path: Path, before: _Content, fields: Fields, count: int) -> Fields:
    """Return columns in the order of an older layer, which has NULL where there is no such field."""
    given = {name.lower(): column for name, column in fields.items()}
    unknown = [name for name in fields if name.lower() not in {known.lower() for known in before.fields}]
    if unknown:
        raise OutputError(f"{path} has no field {', '.join(unknown)}", "add it to the layer, or write another file")
    none = np.full(count, None, dtype=object)
    return {name: given.get(name.lower(), none) for name in before.fields}


def _layers(path: Path) -> dict[str, str | None]:
    """Return the types of geometry by layer; nothing if GDAL cannot read the file."""
    try:
        return {str(name): kind for name, kind in pyogrio.list_layers(path)}
    except RuntimeError:
        return {}


def _raster_tables(path: Path) -> list[str]:
    """Return the names of the rasters in a database, if it is a GeoPackage."""
    try:
        with closing(sqlite3.connect(path)) as database:
            query = "SELECT table_name FROM gpkg_contents WHERE data_type IN ('tiles', '2d-gridded-coverage')"
            return [str(name) for (name,) in database.execute(query)]
    except sqlite3.DatabaseError:
        return []


def _layer_in(path: Path, kinds: Mapping[str, str | None], layer: str) -> str | None:
    """Return the layer of a file to replace or to add to; a new name if there is none."""
    if not vector_format(path).has_layers:
        return next(iter(kinds), None)
    wanted = layer or _valid_layer_name(path.stem)
    name = next((known for known in kinds if known.lower() == wanted.lower()), wanted)
    if name in kinds and kinds[name] is None:
        raise OutputError(f"{name} in {path} is a table without geometries", "choose another name with --out-layer")
    return name


def _state(path: Path) -> _State:
    """Return when an existing file and its write-ahead log were changed, and their sizes."""
    target = _target(path)
    files = [file for file in (target, target.with_name(f"{target.name}-wal")) if file.exists()]
    return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files]


def _copy(path: Path, made: Path) -> _State:
    """Copy an existing file with all that belongs to it, and return its state."""
    target, chosen = _target(path), vector_format(path)
    copied = _state(path)
    if not chosen.has_layers:
        for ending in (path.suffix, *chosen.companions, *map(str.upper, chosen.companions)):
            source = target.with_name(target.stem + ending)
            if source.exists():
                shutil.copyfile(source, made.with_name(made.stem + ending.lower()))
        return copied
    try:
        with closing(sqlite3.connect(target, timeout=_LOCK_WAIT_S, isolation_level=None)) as database:
            # Changes in the write-ahead log go to the file, which fails while another program has it open.
            database.execute("PRAGMA journal_mode = DELETE")
            database.execute("BEGIN EXCLUSIVE")
            copied = _state(path)
            shutil.copyfile(target, made)
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError(f"{path} is locked", "close the program that uses it") from error
        raise OSError(str(error)) from error
    except sqlite3.DatabaseError:
        # It is no database, and will be replaced.
        shutil.copyfile(target, made)
    return copied


def _is_plain(path: Path, column: NDArray[Any]) -> bool:
    """Tell whether pyogrio can write a column as it is; a Shapefile has dates, but no times."""
    if column.dtype != object:
        return path.suffix.lower() != ".shp" or column.dtype.kind != "M" or column.dtype == np.dtype("datetime64[D]")
    values = [value for value in column.tolist() if value is not None]
    return all(isinstance(value, str) for value in values) or split_time_zones(column)[1] is not None


def _valid_layer_name(name: str) -> str:
    """Return a name that a table can have: it begins with a letter or digit, and not like those of the database."""
    name = re.sub(r"^[\W_]+|[\x00-\x1f|\"\ud800-\udfff]|\s+$", "", name) or "polygons"
    return f"layer_{name}" if re.match("gpkg|sqlite|rtree", name, re.IGNORECASE) else name


def _plain_stem(path: Path) -> str:
    """Return a name like that of a file, as some formats write it into the file."""
    return re.sub(r"[^\w-]+", "_", path.stem).strip("-_")[:60] or "out"


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Give a folder a path that pyogrio does not take for a URI or an archive."""
    plain = Path("/" + str(folder).lstrip("/")) if os.name != "nt" else folder
    if os.name == "nt" or _PLAIN.fullmatch(str(plain)):
        yield plain
        return
    with tempfile.TemporaryDirectory(prefix="geosam-es-") as temporary:
        link = Path(temporary) / "folder"
        if not _PLAIN.fullmatch(str(link)):
            raise OSError(f"the folder for temporary files, {temporary}, has special characters")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _crs_error(path: Path, crs: pyproj.CRS, has_option: bool = True) -> OutputError:
    remedy = _other_format(path, "choose another one, such as EPSG:4326, with --out-crs")
    return OutputError(f"{path} cannot hold the CRS {crs.name}", remedy if has_option else "write a .gpkg")


def _other_format(path: Path, remedy: str) -> str:
    return remedy if path.suffix.lower() == ".gpkg" else f"{remedy}, or write a .gpkg"


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    # The errors of pyogrio are RuntimeErrors; text that the format cannot hold is a ValueError.
    # A file without layers gives an IndexError.
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        code = getattr(error, "errno", None)
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        remedies = {
            errno.ENAMETOOLONG: "choose a shorter name with -o",
            errno.EACCES: "close the program that uses it, or check the permissions",
            errno.EPERM: "close the program that uses it, or check the permissions",
        }
        remedy = remedies.get(code or 0, _other_format(path, "check the free space and the permissions"))
        raise OutputError(f"{path} cannot be written ({reason})", remedy) from error
