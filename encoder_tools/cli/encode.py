"""``geosam-es encode``."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from geosam_es.core.grid import FINEST_LEVEL
from geosam_es.core.prompts import Bounds
from geosam_es.errors import OutputError, RasterError
from geosam_es.store import store_path_for
from geosam_es.store.decoders import added_decoders, copy_decoders
from geosam_es.store.layout import DECODERS
from geosam_es.store.metadata import DTYPES
from geosam_es.store.raster_name import GdalName, RasterPath, raster_path

from ..crs import ASSIGN_CRS, area_on, check_degrees, same_crs
from ..distributed import Cluster, Model, connect
from ..finetune.encode_again import moved_note
from ..models.checkpoints import load_registry
from ..models.loading import LoadedModel, load_model
from ..object_store import get_decoders
from ..pipeline import EncodeOptions, encode, estimate, make_plan
from ..progress import Progress
from ..raster import Raster, can_read
from ..remote import Target, is_there
from ..vector import read_vector
from .group import EXIT_BAD_INPUT, EXIT_FAULT, report_fault, user_error
from .options import PATH, RASTER, TARGET, counted, json_option, threads_option

__all__ = ["encode_command"]

_RASTER_SUFFIXES = {".tif", ".tiff", ".vrt", ".jp2", ".ecw", ".sid", ".img", ".png", ".jpg", ".jpeg"}
"""Files with these are taken for images, so that a damaged one is reported. Others are images if GDAL can read them."""

_LISTS = (".txt", ".shp", ".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".sqlite")
"""Files with these may name images, unless GDAL reads them as an image."""

_PATH_FIELDS = ("location", "path", "raster")

_MOST_AT_A_TIME = 64

_SIDECAR_SUFFIXES = frozenset((
    ".ovr", ".msk", ".aux", ".xml", ".hdr", ".prj", ".stx", ".clr", ".rdc", ".rrd", ".ige", ".txt", ".csv", ".pdf",
    ".json", ".geojson",
))  # fmt: skip
"""Parts of an image, and texts and documents, some of which GDAL opens too."""


@dataclass(frozen=True)
class _Request:
    """The options that are the same for every image."""

    bands: tuple[int, ...] | None
    nodata: float | None
    crs: str | None
    stretch: str
    overlap: int
    levels: int | None
    batch_size: int | None
    dtype: str
    aoi: Path | None
    finest: int
    limit: int | None
    resume: bool
    overwrite: bool


def _parse_bands(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("write the bands as 4,1,2") from None


@click.command("encode", short_help="Encode IMAGES into stores.")
@click.argument("images", nargs=-1, required=True, type=RASTER)
@click.option(
    "-o",
    "--output",
    type=TARGET,
    help="Folder for the stores, or, for one image, the store itself (NAME.embeddings.zarr); also s3://BUCKET/NAME. "
    "Default: the folder of each image, or the current folder for a URL.",
)
@click.option(
    "--model",
    default="mini",
    show_default=True,
    help="Name from geosam-es models, or folder with encoder.onnx and decoder.onnx, exported or of samexporter.",
)
@click.option("--checkpoint", type=PATH, help="File or folder of weights of that model. Default: the downloaded one.")
@click.option("--device", default="auto", show_default=True, help="Device to encode on: auto, cpu, cuda or cuda:1.")
@click.option(
    "--precision",
    type=click.Choice(("auto", "float32", "bfloat16")),
    default="auto",
    show_default=True,
    help="Precision of SAM models. auto is float32 on a CPU and float16 on a GPU. bfloat16 is faster on recent CPUs "
    "but moves outlines slightly.",
)
@click.option(
    "--bands",
    callback=_parse_bands,
    help="Three bands to use as red, green and blue, such as 4,1,2; or one band. Default: those with these colours in "
    "the file, else the first three.",
)
@click.option(
    "--stretch",
    default="auto",
    show_default=True,
    help="Contrast stretch: none, percentiles (2,98), values (0:4000, as stored in the file), or auto, which is none "
    "for 8-bit images and 2,98 for others.",
)
@click.option("--nodata", type=float, help="Nodata value. Default: the one in the file.")
@click.option("--crs", help="CRS of the images, such as EPSG:25830. It replaces the one in the file.")
@click.option("--overlap", type=int, default=256, show_default=True, help="Overlap of neighbouring tiles in pixels.")
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    help="Number of pyramid levels. Default: up to the level that fits into one tile.",
)
@click.option(
    "--finest",
    type=click.IntRange(FINEST_LEVEL, 0),
    default=0,
    show_default=True,
    help="Finest level. -1 and -2 also encode the image enlarged 2 and 4 times, for objects of less than 100 and 50 "
    "pixels: 4 and 20 times more tiles, so combine them with --aoi. They can be added to a store with --resume.",
)
@click.option("--aoi", type=PATH, help="Vector layer; only tiles that intersect it are encoded.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float16",
    show_default=True,
    help="Data type of the stored features. int8 takes half the space of float16 and moves outlines slightly.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Tiles per batch. Default: a size that suits the device."
)
@threads_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Encode with this many processes on this computer, which share its cores."
    ' Needs Dask: pip install ".[distributed]".',
)
@click.option(
    "--scheduler",
    help="Address of a Dask scheduler, such as tcp://HOST:8786, to encode with its workers. Images and stores must "
    "have the same paths on all machines.",
)
@click.option(
    "--devices",
    help="Devices of the workers, such as cuda:0,cuda:1: one process for each, unless there are --workers or a "
    "--scheduler.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Encode only this many tiles of each image, the first ones, as a sample.",
)
@click.option("--dry-run", is_flag=True, help="Estimate tiles, disk space and time, and write nothing.")
@click.option("--resume", is_flag=True, help="Continue an earlier run: encode only missing tiles.")
@click.option("--overwrite", is_flag=True, help="Replace existing stores.")
@json_option
def encode_command(
    images: Sequence[RasterPath],
    output: Target | None,
    model: str,
    checkpoint: Path | None,
    device: str,
    precision: str,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    devices: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Encode IMAGES, which are files or folders of files, into embedding stores.

    An image may have any name that GDAL opens: a URL, a file in an archive, or a raster inside a file. It may also be a
    pattern such as 'flights/*.tif', a text file with a name in each line, or a vector layer with the names in a field
    location, path or raster, such as a tile index of gdaltindex or a catalogue of geosam-es catalog.

    If only some of several images could be encoded, the exit code is 1. A run again with --resume encodes what is
    missing.

    \b
    Example:
      geosam-es encode ortho.tif
      geosam-es encode flights/*.tif -o stores/ --model vit_b --device cuda --resume
      geosam-es encode index.shp -o stores/ --workers 4 --resume
      geosam-es encode 'NETCDF:"scene.nc":Band1'
      geosam-es encode /vsizip/flight.zip/ortho.tif
    """
    request = _Request(**options)
    if request.resume and request.overwrite:
        raise click.UsageError("--resume and --overwrite cannot be combined.")
    jobs = _jobs(images, output)
    names = (device,) if devices is None else tuple(map(str.strip, devices.split(",")))
    if not all(names):
        raise click.UsageError("the name of a device is empty")
    is_shared = not dry_run and (workers, scheduler, devices) != (None, None, None)
    spec = Model(_absolute(model), checkpoint and checkpoint.absolute(), names, threads, precision, request.batch_size)
    with TemporaryDirectory(prefix="geosam-es-") as folder:
        if model in (models := load_registry()) and models[model].notice:
            click.echo(models[model].notice, err=True)
        # The workers have the devices; this process only exports the decoder.
        loaded = load_model(model, checkpoint, "cpu" if is_shared else device, Path(folder), threads, precision)
        with connect(scheduler, workers or len(names), threads, spec) if is_shared else nullcontext() as cluster:
            # One bad image must not stop the others.
            attempt = _encode_one if len(jobs) == 1 else _try_to_encode
            run = partial(attempt, loaded=loaded, request=request, dry_run=dry_run, cluster=cluster)
            outcomes = [run(*job) for job in jobs] if cluster is None else list(_at_a_time(run, jobs, cluster))
    _print(outcomes, dry_run, as_json)
    failed = [outcome for outcome in outcomes if "error" in outcome]
    if len(jobs) > 1 and failed:
        click.echo(f"{len(failed)} of {len(jobs)} images could not be encoded:", err=True)
        for outcome in failed:
            click.echo(f"  {outcome['error']}", err=True)
    if any(outcome.get("is_fault") for outcome in failed) or 0 < len(failed) < len(jobs):
        sys.exit(EXIT_FAULT)
    if failed:
        sys.exit(EXIT_BAD_INPUT)


_Attempt = Callable[..., dict[str, Any]]
_Jobs = list[tuple[RasterPath, Target]]


def _absolute(model: str) -> str:
    return os.path.abspath(model) if os.path.isdir(model) else model  # noqa: PTH100, PTH112


def _at_a_time(attempt: _Attempt, jobs: _Jobs, cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Encode several images at a time, so that small ones keep many workers busy."""
    count = min(len(jobs), max(2, cluster.workers), _MOST_AT_A_TIME)
    label = jobs[0][0].name if len(jobs) == 1 else f"{len(jobs)} images"
    with ThreadPoolExecutor(count) as pool, Progress(label, "tiles") as progress:
        parts: dict[Target, tuple[int, int]] = {}
        lock = threading.Lock()

        def show(store: Target, done: int, total: int) -> None:
            with lock:
                parts[store] = done, total
                progress(*map(sum, zip(*parts.values())))

        try:
            yield from pool.map(lambda job: attempt(*job, progress=partial(show, job[1])), jobs)
        except BaseException:
            cluster.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _jobs(images: Sequence[RasterPath], output: Target | None) -> _Jobs:
    """Return each raster with the path of its store."""
    rasters = list({_place(raster): raster for image in images for raster in _expand(image)}.values())
    if output is not None and str(output).endswith(".zarr"):
        if len(rasters) != 1:
            raise OutputError(f"{output} is one store, but there are {len(rasters)} images", "give a folder with -o")
        return [(rasters[0], output)]
    # Path.exists raises if the name is too long.
    if isinstance(output, Path) and os.path.exists(output) and not output.is_dir():  # noqa: PTH110
        raise OutputError(f"{output} is a file", "give a folder, or a store named NAME.embeddings.zarr, with -o")
    jobs: _Jobs = [
        (
            raster,
            f"{output}/{store_path_for(raster).name}" if isinstance(output, str) else store_path_for(raster, output),
        )
        for raster in rasters
    ]
    seen: dict[Target, RasterPath] = {}
    for raster, store in jobs:
        if store in seen:
            raise OutputError(
                f"{seen[store]} and {raster} would have the same store {store}", "encode them into two folders"
            )
        seen[store] = raster
    return jobs


def _place(raster: RasterPath) -> RasterPath:
    """Return the same for each name of a file in a folder, such as ``sheets/../a.tif`` and ``a.tif``."""
    return raster if isinstance(raster, GdalName) else Path(os.path.realpath(raster.parent), raster.name)


def _expand(image: RasterPath) -> list[RasterPath]:
    """Return the images that a name stands for."""
    if isinstance(image, GdalName):
        return [image]
    if os.path.isdir(image):  # noqa: PTH112
        return _in_folder(image)
    name = str(image)
    if not os.path.exists(image):  # noqa: PTH110
        if name.startswith("@"):
            return _listed(Path(name[1:]))
        found = [Path(path) for path in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
        return [raster for path in found if path.is_dir() or _is_image(path) for raster in _expand(path)] or [image]
    suffix = image.suffix.lower()
    if suffix not in _LISTS or can_read(image):
        return [image]
    return _listed(image) if suffix == ".txt" else _indexed(image)


def _listed(path: Path) -> list[RasterPath]:
    """Return the images that a text file names, seen from its folder."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise RasterError(f"{path} is not a list of images", "write one name in each line, as UTF-8") from error
    return _named([line for line in lines if line and not line.startswith("#")], path)


def _indexed(path: Path) -> list[RasterPath]:
    """Return the images that a field of a vector layer names, seen from its folder."""
    layer = read_vector(path)
    names = next((column for column in map(layer.field, _PATH_FIELDS) if column is not None), None)
    if names is None:
        raise RasterError(f"{path} names no images", f"give it a field {', '.join(_PATH_FIELDS)} with their paths")
    return _named([str(name) for name in names if name], path)


def _named(names: Sequence[str], source: Path) -> list[RasterPath]:
    if not names:
        raise RasterError(f"{source} names no images", "write one name for each image")
    found = [raster_path(name) for name in names]
    return [source.parent / path if isinstance(path, Path) else path for path in found]


def _in_folder(image: Path) -> list[RasterPath]:
    try:
        found: list[RasterPath] = [path for path in sorted(image.iterdir()) if _is_image(path)]
    except OSError as error:
        raise RasterError(f"{image} cannot be read ({error.strerror})", "check its permissions") from error
    if not found and not can_read(image):
        raise RasterError(f"{image} contains no images", "name the files, or another folder")
    # GDAL reads some folders as one image.
    return found or [image]


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix in _SIDECAR_SUFFIXES or not path.is_file():
        return False
    return suffix in _RASTER_SUFFIXES or can_read(path)


def _try_to_encode(path: RasterPath, store: Target, **options: Any) -> dict[str, Any]:
    try:
        return _encode_one(path, store, **options)
    except Exception as error:
        known = user_error(error)
        text = f"{path}: {report_fault(error)}" if known is None else known.user_message
        outcome = {"raster": str(path), "error": text, **({"is_fault": True} if known is None else {})}
    click.echo(f"Error: {outcome['error']}", err=True)
    return outcome


def _encode_one(
    path: RasterPath,
    store: Target,
    *,
    loaded: LoadedModel,
    request: _Request,
    dry_run: bool,
    cluster: Cluster | None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    raster = Raster(path, request.bands, request.nodata, request.crs)
    if raster.file_crs_wkt and not same_crs(raster.file_crs_wkt, raster.crs_wkt):
        click.echo(f"{path}: --crs {request.crs} replaces the CRS of the file", err=True)
    if raster.ignores_nodata:
        click.echo(f"{path}: its mask says which pixels have data, and --nodata is not used", err=True)
    if raster.guesses_bands:
        used = ", ".join(map(str, raster.bands))
        click.echo(f"{path}: the bands {used} are used as red, green and blue; --bands chooses others", err=True)
    options = EncodeOptions(
        stretch=request.stretch,
        overlap=request.overlap,
        levels=request.levels,
        dtype=request.dtype,
        batch_size=request.batch_size,
        aoi=None if request.aoi is None else _read_aoi(request.aoi, raster),
        finest=request.finest,
        limit=request.limit,
    )
    plan = make_plan(raster, loaded.encoder, options)
    outcome: dict[str, Any] = {"raster": str(path), "store": str(store), "levels": len(plan.grids)}
    outcome["stretch_pixels"] = plan.metadata.stretch.sampled_pixels
    if dry_run:
        return {**outcome, **asdict(estimate(plan, loaded.encoder, loaded.decoder_bytes))}
    kept: Path | None = None

    def decoder_files() -> Mapping[str, Path]:
        nonlocal kept
        files = dict(loaded.export_decoder())
        # What is left of a store in object storage is removed without --overwrite too.
        if request.overwrite or (isinstance(store, str) and not is_there(store)):
            older, beside = Path(store), None
            if isinstance(store, str):
                older, beside = Path(work.name), Path(store.rpartition("/")[2])
                get_decoders(store, older)
            added = added_decoders(older, loaded.encoder.info.encoder_sha256)
            kept = None if added else copy_decoders(older, beside)
            files.update(added)
        return files

    work = TemporaryDirectory(prefix="geosam-es-")
    try:
        with work, Progress(path.name, "tiles") if progress is None else nullcontext(progress) as shown:
            report = encode(
                plan,
                loaded.encoder,
                store,
                decoder_files,
                resume=request.resume,
                overwrite=request.overwrite,
                progress=shown,
                encode_with=cluster.encode if cluster is not None else None,
            )
    finally:
        if kept is not None and (Path(store) / DECODERS).is_dir():
            # The older store is back.
            shutil.rmtree(kept, ignore_errors=True)
        elif kept is not None:
            click.echo(moved_note(store, kept), err=True)
    return {**outcome, **asdict(report)}


def _read_aoi(path: Path, raster: Raster) -> BaseGeometry:
    layer = read_vector(path)
    if layer.crs is not None:
        check_degrees(layer.geometries, layer.crs, str(path), ASSIGN_CRS)
    crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    geometry = area_on(layer.geometries, layer.crs or crs, crs, Bounds(*extent.bounds))
    if not geometry.intersects(extent):
        raise RasterError(f"{path} lies outside {raster.path}", "check the layer and its CRS")
    shapely.prepare(geometry)
    return geometry


def _print(outcomes: list[dict[str, Any]], dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcomes, indent=2))
        return
    for outcome in outcomes:
        if "error" in outcome:
            continue
        if dry_run:
            size = outcome["store_bytes"] / 2**20
            click.echo(
                f"{outcome['raster']}: {counted(outcome['tiles'], 'tile')} in "
                f"{counted(outcome['levels'], 'level')}, at most "
                f"{size:.0f} MiB, about {outcome['seconds']:.0f} s{_stretch_text(outcome['stretch_pixels'])}"
            )
        else:
            click.echo(
                f"{outcome['store']}: {counted(outcome['encoded'], 'tile')} encoded in {outcome['seconds']:.1f} s, "
                f"{outcome['skipped']} without data, {outcome['resumed']} encoded before"
            )


def _stretch_text(pixels: int | None) -> str:
    return "" if pixels is None else f"; stretched by the percentiles of {pixels:,} pixels"
