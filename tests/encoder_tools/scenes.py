"""Small rasters with known objects, and a model in ONNX whose answers are known.

The features of a tile are its image averaged over 4 x 4 pixels, and the decoder's four masks are what is brighter than
four thresholds. A bright rectangle on whole cells of 4 pixels is therefore traced exactly, apart from its corners.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import Affine

DARK, BRIGHT = 40, 220
CRS = "EPSG:25830"
THRESHOLDS = (0.5, 0.8, 0.5, 0.6)
SCORES = (0.95, 0.6, 0.9, 0.7)
"""Of the single mask, and of the three candidates of a click."""


class Block(NamedTuple):
    """A bright rectangle in pixels."""

    col: int
    row: int
    width: int
    height: int

    def on_map(self, transform: Any) -> shapely.Geometry:
        left, top, right, bottom = self.col, self.row, self.col + self.width, self.row + self.height
        return shapely.Polygon([transform @ xy for xy in ((left, top), (right, top), (right, bottom), (left, bottom))])

    def centre(self, transform: Any) -> tuple[float, float]:
        x, y = transform @ (self.col + self.width / 2, self.row + self.height / 2)
        return float(x), float(y)


def scene(width: int, height: int, blocks: Sequence[Block], bands: int = 3, dtype: str = "uint8") -> NDArray[Any]:
    """Draw bright blocks on a dark and not quite even ground."""
    rows, cols = np.mgrid[:height, :width]
    image = (DARK + (rows // 8 + cols // 8) % 7).astype(dtype)
    for block in blocks:
        image[block.row : block.row + block.height, block.col : block.col + block.width] = BRIGHT
    return np.repeat(image[None], bands, axis=0)


def ramp(bands: int, height: int = 64, width: int = 64, dtype: str = "uint8") -> NDArray[Any]:
    """Make pixels that all differ from their neighbours."""
    values = np.arange(bands * height * width).reshape(bands, height, width)
    return (values % 251).astype(dtype)


def write_raster(path: Path, pixels: NDArray[Any], pixel: float = 0.5, **profile: Any) -> Path:
    """Write pixels (bands, h, w); keywords go to rasterio."""
    options = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": CRS,
        "transform": Affine(pixel, 0.0, 700000.0, 0.0, -pixel, 4400000.0),
    }
    wanted = {key: value for key, value in {**options, **profile}.items() if value is not None}
    with rasterio.open(path, "w", **wanted) as dataset:
        dataset.write(pixels)
    return path


def write_layer(path: Path, geometries: list[Any], crs: str | None = "EPSG:25830", **fields: list[Any]) -> Path:
    """Write a vector layer; keywords are its fields."""
    if crs is None:
        # pyogrio warns about what is intended here.
        warnings.filterwarnings("ignore", "'crs' was not provided")
    pyogrio.raw.write(
        path,
        np.array([None if g is None else shapely.to_wkb(g) for g in geometries], dtype=object),
        [np.array(values) for values in fields.values()],
        list(fields),
        geometry_type="Unknown",
        crs=crs,
        append=path.exists(),
    )
    return path


def transform_of(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.transform


def write_model(folder: Path, name: str = "bright") -> Path:
    """Write a model folder, as ``geosam-es export --encoder`` would."""
    folder.mkdir(parents=True)
    _save(folder / "encoder.onnx", _encoder_graph())
    _save(folder / "prepare.onnx", _prepare_graph())
    _save(folder / "decoder.onnx", _decoder_graph())
    info = {
        "name": name,
        "encoder_sha256": "b" * 64,
        "licence": "CC0-1.0",
        "features": {"image_embeddings": [3, 256, 256]},
    }
    (folder / "model.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def _save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _tensor(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _constant(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)


def _encoder_graph() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["values"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["cells", "scale"], ["image_embeddings"]),
    ]
    return helper.make_graph(
        nodes,
        "encoder",
        [_tensor("images", ["B", 1024, 1024, 3], TensorProto.UINT8)],
        [_tensor("image_embeddings", ["B", 3, 256, 256])],
        [_constant("scale", 1 / 255)],
    )


def _prepare_graph() -> onnx.GraphProto:
    nodes = [helper.make_node("ReduceMean", ["image_embeddings"], ["brightness"], axes=[1], keepdims=1)]
    inputs = [_tensor("image_embeddings", [1, 3, 256, 256])]
    return helper.make_graph(nodes, "prepare", inputs, [_tensor("brightness", [1, 1, 256, 256])])


def _decoder_graph() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Sub", ["brightness", "thresholds"], ["above"]),
        helper.make_node("Mul", ["above", "gain"], ["low_res_masks"]),
        helper.make_node("Identity", ["scores"], ["iou_predictions"]),
    ]
    inputs = [
        _tensor("brightness", [1, 1, 256, 256]),
        _tensor("point_coords", [1, "N", 2]),
        _tensor("point_labels", [1, "N"]),
        _tensor("mask_input", [1, 1, 256, 256]),
        _tensor("has_mask_input", [1]),
    ]
    outputs = [_tensor("low_res_masks", [1, 4, 256, 256]), _tensor("iou_predictions", [1, 4])]
    constants = [
        _constant("thresholds", np.reshape(THRESHOLDS, (1, 4, 1, 1))),
        _constant("gain", 40.0),
        _constant("scores", [SCORES]),
    ]
    return helper.make_graph(nodes, "decoder", inputs, outputs, constants)
