"""Encode an image, click on objects, write polygons and a picture. ``make demo`` runs this.

Without an image as argument it uses the orthophoto in the folder of ``GEOSAM_ES_DATA``, or a synthetic one. Both have
ground truth, so that the picture shows the IoU of each polygon.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.prompts import Point
from geosam_es.core.window import Window
from geosam_es.errors import GeoSamError, OutputError
from geosam_es.inference.session import open_segmenter

from .crs import reproject
from .models.loading import load_model
from .pipeline import EncodeOptions, encode, make_plan
from .progress import Progress
from .raster import Raster
from .segment import ObjectPrompts, ObjectResult, SegmentOptions, SegmentReport, segment, write_results
from .synthetic import synthetic_orthophoto
from .vector import read_vector

__all__ = ["main", "run_demo"]

DATA_VARIABLE = "GEOSAM_ES_DATA"
REAL_IMAGE = Path("buildings/val_kampala/ortho_block1.tif")
REAL_LABELS = Path("buildings/val_kampala/labels.geojson")
SEED = 41
SYNTHETIC_SHAPE = (1500, 2000)
SYNTHETIC_PIXEL_M = 0.25
SYNTHETIC_ORIGIN = (728_000.0, 4_372_000.0)
SYNTHETIC_CRS = "EPSG:25830"
OBJECTS_OF_A_CLASS = 6
MIN_OBJECT_PIXELS = 400.0
GRID_SIDE = 6
SHOWN_WITHOUT_TRUTH = 12


@dataclass(frozen=True)
class Truth:
    """An object with its true outline in map coordinates."""

    class_name: str
    geometry: BaseGeometry


@dataclass(frozen=True)
class Answer:
    """A prompt, its result, and the IoU with the truth; None if that is unknown."""

    prompts: ObjectPrompts
    class_name: str
    item: ObjectResult
    iou: float | None

    @property
    def kind(self) -> str:
        """``point`` or ``box``."""
        return "box" if self.prompts.box is not None else "point"


def run_demo(image: Path | None, folder: Path) -> list[Answer]:
    """Encode, prompt, and write ``polygons.gpkg`` and ``demo.png``.

    Parameters
    ----------
    image : Path, optional
    folder : Path
        Made if it does not exist; files of an earlier demo are replaced.

    Returns
    -------
    list of Answer
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created ({error.strerror})", "choose another folder with -o") from error
    path, truths = _choose_image(image, folder)
    raster = Raster(path)
    store = folder / f"{path.stem}.embeddings.zarr"
    with TemporaryDirectory(prefix="geosam-es-") as work, Progress(path.name, "tiles") as progress:
        model = load_model("mini", None, "auto", Path(work))
        plan = make_plan(raster, model.encoder, EncodeOptions())
        encode(plan, model.encoder, store, model.export_decoder, overwrite=True, progress=progress)
    prompts = _prompts_of(truths, raster) if truths else _grid_prompts(raster)
    report = segment(open_segmenter(store), [item for item, _ in prompts], SegmentOptions())
    if not truths:
        report = _best_apart(report)
    crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
    write_results(folder / "polygons.gpkg", report, crs, crs, candidates=False)
    answers = _answers(prompts, report)
    _draw(raster, answers, folder / "demo.png")
    return answers


def _choose_image(image: Path | None, folder: Path) -> tuple[Path, list[Truth]]:
    if image is not None:
        return image, []
    data = Path(os.environ.get(DATA_VARIABLE, ""))
    if os.environ.get(DATA_VARIABLE) and (data / REAL_IMAGE).is_file():
        return data / REAL_IMAGE, _real_truth(data)
    return _write_synthetic(folder)


def _real_truth(data: Path) -> list[Truth]:
    raster = Raster(data / REAL_IMAGE)
    crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
    layer = read_vector(data / REAL_LABELS)
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    outlines = shapely.intersection(shapely.make_valid(reproject(layer.geometries, layer.crs or crs, crs)), extent)
    return [Truth("building", outline) for outline in outlines if not outline.is_empty]


def _write_synthetic(folder: Path) -> tuple[Path, list[Truth]]:
    height, width = SYNTHETIC_SHAPE
    scene = synthetic_orthophoto(height, width, SYNTHETIC_PIXEL_M, SEED)
    path = folder / "synthetic.tif"
    transform = rasterio.transform.from_origin(*SYNTHETIC_ORIGIN, SYNTHETIC_PIXEL_M, SYNTHETIC_PIXEL_M)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs=SYNTHETIC_CRS, transform=transform, tiled=True, compress="deflate"
    ) as dataset:
        dataset.write(np.moveaxis(scene.image, -1, 0))
    to_map = Raster(path).transform.apply_geometry
    # Roads form one network, which a click or a box cannot select.
    return path, [Truth(name, to_map(outline)) for name, outline in scene.objects if name != "road"]


def _prompts_of(truths: Sequence[Truth], raster: Raster) -> list[tuple[ObjectPrompts, Truth]]:
    """Prompt some objects of each class, alternately with a click well inside and with a box."""
    rng = np.random.default_rng(SEED)
    pixel_area = raster.transform.pixel_size**2
    prompts: list[tuple[ObjectPrompts, Truth]] = []
    for class_name in sorted({truth.class_name for truth in truths}):
        large = [t for t in truths if t.class_name == class_name and t.geometry.area >= MIN_OBJECT_PIXELS * pixel_area]
        chosen = rng.permutation(len(large))[:OBJECTS_OF_A_CLASS]
        for turn, index in enumerate(chosen):
            truth = large[index]
            name = f"{class_name} {turn + 1}"
            if turn % 2:
                prompts.append((ObjectPrompts(name, box=shapely.box(*truth.geometry.bounds)), truth))
            else:
                inside = shapely.maximum_inscribed_circle(truth.geometry).coords[0]
                prompts.append((ObjectPrompts(name, (Point(*inside),)), truth))
    return prompts


def _grid_prompts(raster: Raster) -> list[tuple[ObjectPrompts, Truth]]:
    """Click on a regular grid, for images without ground truth."""
    prompts = []
    for row in range(GRID_SIDE):
        for col in range(GRID_SIDE):
            place = (col + 0.5) / GRID_SIDE * raster.width, (row + 0.5) / GRID_SIDE * raster.height
            pixel, valid = raster.read_bands(Window(int(place[0]), int(place[1]), 1, 1), 1)
            # Skip black margins without a nodata value.
            if not valid.all() or not pixel.any():
                continue
            point = Point(*raster.transform.apply(*place))
            item = ObjectPrompts(f"click {row * GRID_SIDE + col + 1}", (point,))
            prompts.append((item, Truth("object", shapely.Polygon())))
    return prompts


def _best_apart(report: SegmentReport) -> SegmentReport:
    """Keep the best polygons without overlaps, because several clicks may have hit one object."""
    kept: list[ObjectResult] = []
    for item in sorted(report.results, key=lambda item: -item.result.score):
        geometry = item.result.geometry
        is_speck = sum(polygon.area for polygon in item.result.candidate.polygons) < MIN_OBJECT_PIXELS
        if not is_speck and all(geometry.intersection(k.result.geometry).area < 0.1 * geometry.area for k in kept):
            kept.append(item)
    return SegmentReport(kept[:SHOWN_WITHOUT_TRUTH], report.left_out, report.seconds)


def _answers(prompts: Sequence[tuple[ObjectPrompts, Truth]], report: SegmentReport) -> list[Answer]:
    given = {item.object_id: (item, truth) for item, truth in prompts}
    answers = []
    for item in report.results:
        asked, truth = given[item.object_id]
        geometry, outline = item.result.geometry, truth.geometry
        iou = None
        if not outline.is_empty:
            iou = geometry.intersection(outline).area / geometry.union(outline).area
        answers.append(Answer(asked, truth.class_name, item, iou))
    return answers


def _draw(raster: Raster, answers: Sequence[Answer], path: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise OutputError(
            f"{path} needs matplotlib, which cannot be imported ({error})",
            "install it with: pip install 'geosam-es[demo]'",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with rasterio.open(raster.path) as dataset:
        factor = max(1, max(dataset.shape) // 2000)
        shape = (3, dataset.height // factor, dataset.width // factor)
        image = np.moveaxis(dataset.read(list(raster.bands), out_shape=shape), 0, -1)
    to_pixels = raster.transform.inverse().apply_geometry
    figure, axes = plt.subplots(figsize=(12, 12 * raster.height / raster.width + 0.6), dpi=110)
    axes.imshow(_to_8_bits(image), extent=(0, raster.width, raster.height, 0))
    colours = plt.get_cmap("tab10")
    for index, answer in enumerate(answers):
        _draw_answer(axes, answer, to_pixels, colours(index % 10))
    axes.set_xlim(0, raster.width)
    axes.set_ylim(raster.height, 0)
    axes.set_axis_off()
    axes.set_title(_headline(answers), fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _draw_answer(axes: Any, answer: Answer, to_pixels: Any, colour: Any) -> None:
    for part in shapely.get_parts(to_pixels(answer.item.result.geometry)):
        for number, ring in enumerate([part.exterior, *part.interiors]):
            xy = np.asarray(ring.coords)
            axes.plot(xy[:, 0], xy[:, 1], color=colour, linewidth=1.6)
            if number == 0:
                axes.fill(xy[:, 0], xy[:, 1], color=colour, alpha=0.25)
    for point in answer.prompts.points:
        mark = to_pixels(shapely.Point(point.x, point.y))
        axes.plot(mark.x, mark.y, marker="*", color="white", markeredgecolor="black", markersize=11)
    if answer.prompts.box is not None:
        xy = np.asarray(to_pixels(shapely.box(*answer.prompts.box.bounds)).exterior.coords)
        axes.plot(xy[:, 0], xy[:, 1], color="white", linewidth=1.0, linestyle="--")
    anchor = to_pixels(answer.item.result.geometry).representative_point()
    text = f"{answer.item.result.milliseconds:.0f} ms"
    text = f"IoU {answer.iou:.2f}, {text}" if answer.iou is not None else text
    box = {"facecolor": "black", "alpha": 0.55, "pad": 1.5, "edgecolor": "none"}
    axes.annotate(text, (anchor.x, anchor.y), color="white", fontsize=7, ha="center", va="bottom", bbox=box)


def _to_8_bits(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    low, high = np.nanpercentile(image.astype(np.float64), (2, 98))
    scaled = np.clip((np.nan_to_num(image.astype(np.float64)) - low) / max(high - low, 1e-9), 0, 1)
    return np.asarray(scaled * 255, dtype=np.uint8)


def _headline(answers: Sequence[Answer]) -> str:
    times = [answer.item.result.milliseconds for answer in answers]
    return f"GeoSAM-ES, embedded model mini: {len(answers)} objects, {np.median(times):.0f} ms each (median)"


def _table(answers: Sequence[Answer]) -> list[str]:
    lines = [f"{'class':10} {'prompt':7} {'objects':>7} {'mean IoU':>9} {'median ms':>10}"]
    for class_name, kind in sorted({(answer.class_name, answer.kind) for answer in answers}):
        group = [answer for answer in answers if (answer.class_name, answer.kind) == (class_name, kind)]
        ious = [answer.iou for answer in group if answer.iou is not None]
        shown = f"{np.mean(ious):9.2f}" if ious else f"{'unknown':>9}"
        times = np.median([answer.item.result.milliseconds for answer in group])
        lines.append(f"{class_name:10} {kind:7} {len(group):7d} {shown} {times:10.0f}")
    return lines


@click.command()
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", default=Path("demo"), type=click.Path(path_type=Path), show_default=True)
def main(image: Path | None, output: Path) -> None:
    """Encode IMAGE (or an example), click on it, and write polygons and a picture."""
    try:
        answers = run_demo(image, output)
    except GeoSamError as error:
        click.echo(f"Error: {error.user_message}", err=True)
        sys.exit(2)
    click.echo("\n".join(_table(answers)))
    click.echo(f"\nPolygons: {output / 'polygons.gpkg'}   Picture: {output / 'demo.png'}")


if __name__ == "__main__":
    main()
