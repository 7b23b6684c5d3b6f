"""The model of `scenes` with a spotlight: its masks end at 72 px from the middle of the prompts.

So a prompt that lands in the wrong place does not find the disc. It answers ten times faster than `mini`, whose
polygons the rows on prompts and outputs judge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.encoder_tools.scenes import SCORES, THRESHOLDS, write_model

REACH_PX = 72.0


def write_spotlight(folder: Path) -> Path:
    """Write the model's folder, as ``geosam-es export --encoder`` would."""
    write_model(folder, "spotlight")
    model = helper.make_model(_decoder_graph(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "decoder.onnx")
    return folder


def _decoder_graph() -> onnx.GraphProto:
    cells = np.arange(256, dtype=np.float32) * 4 + 2
    constants = {
        "thresholds": np.reshape(np.float32(THRESHOLDS), (1, 4, 1, 1)),
        "gain": np.float32(40),
        "scores": np.float32([SCORES]),
        "columns": cells.reshape(1, 1, 1, 256),
        "rows": cells.reshape(1, 1, 256, 1),
        "reach": np.float32(REACH_PX),
        "softness": np.float32(1 / 64),
        "half": np.float32(0.5),
        "last": np.array([2]),
        "each": np.array([1]),
        "x_at": np.array([0]),
        "y_at": np.array([1]),
    }
    steps = [
        # Clicks have the label 1, the corners of a box 2 and 3; others are negative or padding.
        ("Greater", ["point_labels", "half"], "is_positive", {}),
        ("Cast", ["is_positive"], "flat_weights", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["flat_weights", "last"], "weights", {}),
        ("Mul", ["point_coords", "weights"], "counted", {}),
        ("ReduceSum", ["counted", "each"], "sums", {"keepdims": 1}),
        ("ReduceSum", ["weights", "each"], "count", {"keepdims": 1}),
        ("Div", ["sums", "count"], "middle", {}),
        ("Gather", ["middle", "x_at"], "x", {"axis": 2}),
        ("Gather", ["middle", "y_at"], "y", {"axis": 2}),
        ("Sub", ["columns", "x"], "dx", {}),
        ("Sub", ["rows", "y"], "dy", {}),
        ("Mul", ["dx", "dx"], "dx2", {}),
        ("Mul", ["dy", "dy"], "dy2", {}),
        ("Add", ["dx2", "dy2"], "d2", {}),
        ("Sqrt", ["d2"], "distance", {}),
        ("Sub", ["reach", "distance"], "left", {}),
        ("Mul", ["left", "softness"], "light", {}),
        ("Sub", ["brightness", "thresholds"], "above", {}),
        ("Min", ["above", "light"], "lit", {}),
        ("Mul", ["lit", "gain"], "low_res_masks", {}),
        ("Identity", ["scores"], "iou_predictions", {}),
    ]
    shapes = {
        "brightness": [1, 1, 256, 256],
        "point_coords": [1, "N", 2],
        "point_labels": [1, "N"],
        "mask_input": [1, 1, 256, 256],
        "has_mask_input": [1],
        "low_res_masks": [1, 4, 256, 256],
        "iou_predictions": [1, 4],
    }
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in steps]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_graph(nodes, "spotlight", tensors[:5], tensors[5:], values)
