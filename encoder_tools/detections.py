"""Reading the boxes of a detector: COCO JSON and YOLO text files, in pixels of the raster."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import pyproj
import shapely

from geosam_es.errors import VectorError
from geosam_es.store.metadata import RasterInfo

from .vector import VectorLayer

__all__ = ["read_detections"]

_REMEDY = "give the boxes that the detector found on this raster, in its pixels"
_LARGEST_SHARE = 1.5
"""Boxes may extend beyond the image; larger values are pixels."""

_NAME_FILES = ("classes.txt", "obj.names", "data.yaml")
_YAML_NAMES = re.compile(r"^names:[ \t]*(?:[\[{]([^\]}]*)[\]}]|((?:\s*\n[ \t]*(?:-|\d+[ \t]*:)[^\n]*)+))", re.MULTILINE)
_YAML_NAME = re.compile(r"^\s*(?:-\s*)?(?:(\d+)\s*:\s*)?(['\"]?)(.*?)\2\s*(?:\s#.*)?$")


class _Box(NamedTuple):
    bounds: tuple[float, float, float, float]
    label: Any
    score: float | None


def read_detections(path: Path, raster: RasterInfo, crs: pyproj.CRS) -> VectorLayer | None:
    """Read the boxes that a detector found on a raster, in pixels of the raster.

    Parameters
    ----------
    path : Path
        COCO JSON, a data set or a list of results, of which the boxes on the raster are read. Or a YOLO text file; the
        names of its classes come from ``classes.txt``, ``obj.names`` or ``data.yaml`` beside it or one folder above.
    raster : RasterInfo
    crs : pyproj.CRS
        CRS of the raster.

    Returns
    -------
    VectorLayer or None
        The boxes with the fields ``class`` and, if the detector gives it, ``score``; None if the file is something
        else, such as GeoJSON or a table with coordinates.

    Raises
    ------
    VectorError
        If the file is damaged, is for another image, or has no box on the raster.
    """
    reader = {".json": _coco, ".txt": _yolo}.get(path.suffix.lower())
    if reader is None or not path.is_file():
        return None
    try:
        boxes = reader(path, path.read_text(encoding="utf-8-sig"), raster)
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise VectorError(f"{path} cannot be read ({error.strerror or error})", "check the path") from error
    return None if boxes is None else _layer(path, boxes, raster, crs)


def _layer(path: Path, boxes: Sequence[_Box], raster: RasterInfo, crs: pyproj.CRS) -> VectorLayer:
    size, name = (raster.width, raster.height), raster.file_name
    if not boxes:
        raise VectorError(f"{path} has no boxes for {name}", "lower the detector's threshold, or give another file")
    bounds = np.array([box.bounds for box in boxes], dtype=np.float64)
    is_box = np.isfinite(bounds).all(axis=1) & (bounds[:, :2] < bounds[:, 2:]).all(axis=1)
    if not is_box.any():
        raise VectorError(f"{path} has only boxes without an area", "check the output of the detector")
    if not ((bounds[:, 2:] > 0) & (bounds[:, :2] < size))[is_box].all(axis=1).any():
        raise VectorError(f"{path} has no box on {name}, which has {size[0]} x {size[1]} pixels", _REMEDY)
    labels = [box.label for box in boxes]
    is_number = all(isinstance(label, int) for label in labels)
    fields = {"class": np.array(labels) if is_number else np.array([str(label) for label in labels], dtype=object)}
    if any(box.score is not None for box in boxes):
        fields["score"] = np.array([np.nan if box.score is None else box.score for box in boxes], dtype=np.float64)
    lost = np.flatnonzero(~is_box)
    note = ""
    if len(lost):
        note = f"boxes of {path} without an area are left out ({len(lost)}, the first one is number {lost[0] + 1})"
    rectangles = np.asarray(shapely.box(*bounds[is_box].T), dtype=object)
    geometries = shapely.transform(rectangles, raster.transform.apply_array)
    kept = {name: column[is_box] for name, column in fields.items()}
    return VectorLayer(geometries, kept, crs, note=note)


def _coco(path: Path, text: str, raster: RasterInfo) -> list[_Box] | None:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise VectorError(f"{path} is not valid JSON", "write or copy it again") from error
    if isinstance(data, dict) and "annotations" in data:
        images, annotations, categories = data.get("images", []), data["annotations"], data.get("categories", [])
    elif isinstance(data, list) and all(isinstance(item, dict) for item in data):
        images, annotations, categories = [], data, []
    else:
        return None
    number = 0
    try:
        image_id = _image_id(path, images, annotations, raster)
        names = {item["id"]: str(item["name"]) for item in categories}
        boxes = []
        for number, item in enumerate(annotations, start=1):  # noqa: B007
            if item.get("image_id") == image_id:
                x, y, width, height = map(float, item["bbox"])
                label = item.get("category_name") or names.get(item["category_id"], item["category_id"])
                score = item.get("score")
                boxes.append(_Box((x, y, x + width, y + height), label, None if score is None else float(score)))
    except VectorError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        where = f"box {number} is" if number else "its images or categories are"
        raise VectorError(
            f"{path} is not in the format of COCO, because {where} damaged",
            "each box needs image_id, category_id and bbox with x, y, width and height",
        ) from error
    return boxes


def _image_id(path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Any], raster: RasterInfo) -> Any:
    """Return the id of the raster among the images, which may be known by their ids alone."""
    known = {item["id"]: item for item in images} or {item.get("image_id"): {} for item in annotations}
    stems = {key: PureWindowsPath(str(item.get("file_name", key))).stem.lower() for key, item in known.items()}
    named = [key for key, stem in stems.items() if stem == PureWindowsPath(raster.file_name).stem.lower()]
    if len(known) > 1 and len(named) != 1:
        raise VectorError(
            f"{path} is for {len(known)} images, of which {len(named) or 'none'} has the name {raster.file_name}",
            "keep the image and the boxes of this raster only",
        )
    image_id = named[0] if named else next(iter(known), None)
    image = known.get(image_id, {})
    size = image.get("width"), image.get("height")
    if None not in size and size != (raster.width, raster.height):
        text = f"{path} is for an image of {size[0]} x {size[1]} pixels, and {raster.file_name} has "
        raise VectorError(f"{text}{raster.width} x {raster.height}", _REMEDY)
    return image_id


def _yolo(path: Path, text: str, raster: RasterInfo) -> list[_Box] | None:
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if lines and (re.search("[,;]", " ".join(lines[0][1])) or not re.match(r"\d", lines[0][1][0])):
        # A table of coordinates.
        return None
    names = _class_names(path) if lines else {}
    size, boxes = np.array([raster.width, raster.height]), []
    for number, words in lines:
        try:
            label, *values = int(float(words[0])), *map(float, words[1:])
        except (ValueError, OverflowError):
            label, values = 0, []
        score = values.pop() if len(values) % 2 else None
        if len(values) < 4 or max(map(abs, values)) > _LARGEST_SHARE:
            raise VectorError(
                f"Line {number} of {path} is not a YOLO box",
                "give the class, and x and y of the middle, width and height divided by those of the image",
            )
        x_y = np.reshape(values, (-1, 2))
        if len(x_y) == 2:
            x_y = x_y[0] + np.array([[-0.5], [0.5]]) * x_y[1]
        low, high = x_y.min(axis=0) * size, x_y.max(axis=0) * size
        boxes.append(_Box((*low, *high), names.get(label, label), score))
    return boxes


def _class_names(path: Path) -> dict[int, str]:
    files = [folder / name for folder in (path.parent, path.parent.parent) for name in _NAME_FILES]
    file = next((file for file in files if file.is_file() and file != path), None)
    if file is None:
        return {}
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if file.suffix != ".yaml":
        return dict(enumerate(map(str.strip, text.split("\n"))))
    found = _YAML_NAMES.search(text)
    lines = [] if found is None else (found[2] or found[1].replace(",", "\n")).split("\n")
    entries = filter(None, map(_YAML_NAME.match, filter(str.strip, lines)))
    return {int(entry[1] or index): entry[3] for index, entry in enumerate(entries)}
