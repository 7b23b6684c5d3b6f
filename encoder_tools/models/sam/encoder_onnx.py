"""SAM's image encoder on a CPU with onnxruntime, exact in float32: its blocks as graphs, built from the weights.

On many CPUs onnxruntime multiplies float32 matrices faster than PyTorch does, and needs fewer passes over memory
between the products. An export of the encoder by PyTorch would take gigabytes and minutes; building the graph of a
block takes a tenth of a second and no file. As in `encoder_bfloat16`, windows are padded after the projections to
queries, keys and values, and global attention runs over a few rows of queries at a time. The scale of the scores is
part of the keys' weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosam_es.inference.runtime import new_session

from ..libraries import import_onnx, torch
from .segment_anything_import import import_segment_anything

__all__ = ["OnnxImageEncoder"]

_OPSET = 17
_IR_VERSION = 8
_FLOAT = 1
_QUERIES = 256
"""Queries at a time: their 256 x 4096 scores, 4 MiB, fit into the cache."""

_GRAPH_BYTES = 200 << 20
"""Size of the weights in one graph. Each graph has its own threads, and a copy of its weights while it is loaded."""

Array = NDArray[Any]


class OnnxImageEncoder(torch.nn.Module):
    """A replacement for ``sam.image_encoder``, without gradients.

    Parameters
    ----------
    image_encoder : segment_anything.modeling.ImageEncoderViT
        The weights of its blocks are copied, the others are shared.
    threads : int, optional
        CPU threads of onnxruntime; by default one for each core.

    Raises
    ------
    ModelError
        If onnx or onnxruntime is not installed.
    """

    patch_embed: Any
    neck: Any
    pos_embed: torch.Tensor

    def __init__(self, image_encoder: Any, threads: int | None = None) -> None:
        super().__init__()
        self.patch_embed = image_encoder.patch_embed
        self.pos_embed = image_encoder.pos_embed
        self.neck = image_encoder.neck
        side = int(self.pos_embed.shape[1])
        # No arena: each session would keep memory that only one of them needs at a time.
        groups = _grouped(image_encoder.blocks)
        self._sessions = [new_session(_Graph(side).of_blocks(group), threads, arena=False) for group in groups]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map normalised float32 (B, 3, 1024, 1024) to float32 (B, 256, 64, 64)."""
        x = (self.patch_embed(pixels) + self.pos_embed).detach().numpy()
        features: torch.Tensor = self.neck(torch.cat([self._through_blocks(tile) for tile in x]).permute(0, 3, 1, 2))
        return features

    def _through_blocks(self, x: Array) -> torch.Tensor:
        """(H, W, C) to (1, H, W, C)."""
        side, _, channels = x.shape
        x = x.reshape(-1, channels)
        for session in self._sessions:
            (x,) = session.run(None, {"x": x})
        return torch.from_numpy(x).view(1, side, side, channels)


def _grouped(blocks: Any) -> Iterator[list[Any]]:
    group: list[Any] = []
    room = _GRAPH_BYTES
    for block in blocks:
        size = sum(weight.nbytes for weight in block.parameters())
        if group and size > room:
            yield group
            group, room = [], _GRAPH_BYTES
        group.append(block)
        room -= size
    if group:
        yield group


class _Graph:
    """The graph of transformer blocks: ``x`` (T, C) to ``y`` (T, C), places in row order.

    Parameters
    ----------
    side : int
        Rows and columns of places.
    """

    def __init__(self, side: int) -> None:
        self._onnx = import_onnx()
        self._side = side
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def of_blocks(self, blocks: Sequence[Any]) -> bytes:
        """Return the blocks as the content of an ONNX file.

        Parameters
        ----------
        blocks : sequence of segment_anything.modeling.image_encoder.Block
            In the order in which they run.
        """
        helper = self._onnx.helper
        x = "x"
        for block in blocks:
            x = self._through(block, x)
        self._nodes.append(helper.make_node("Identity", [x], ["y"]))
        shape = [self._side**2, blocks[0].norm1.weight.shape[0]]
        graph = helper.make_graph(
            self._nodes,
            "blocks",
            [helper.make_tensor_value_info("x", _FLOAT, shape)],
            [helper.make_tensor_value_info("y", _FLOAT, shape)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
        return content

    def _through(self, block: Any, x: str) -> str:
        attended = (self._windowed if block.window_size else self._global)(block, x)
        x = self._op("Add", x, self._linear(attended, block.attn.proj.weight, block.attn.proj.bias))
        first, second = block.mlp.lin1, block.mlp.lin2
        wide = self._linear(self._normalized(x, block.norm2), first.weight, first.bias)
        thought = self._linear(self._op("Gelu", wide, domain="com.microsoft"), second.weight, second.bias)
        return self._op("Add", x, thought)

    def _windowed(self, block: Any, x: str) -> str:
        """Attend within windows; return (T, C)."""
        side, window, heads = self._side, block.window_size, block.attn.num_heads
        count = -(-side // window)
        places = np.full((count * window, count * window), side**2, np.int64)
        places[:side, :side] = np.arange(side**2).reshape(side, side)
        by_window = places.reshape(count, window, count, window).swapaxes(1, 2).reshape(-1)
        # Places beyond the edge are zero before the projections, and the bias after them.
        beyond = self._constant(np.zeros((1, block.norm1.weight.shape[0]), np.float32))
        x = self._op("Concat", self._normalized(x, block.norm1), beyond, axis=0)
        index = self._constant(by_window)
        q, k, v = (
            self._by_head(self._op("Gather", part, index, axis=0), (count**2, window**2, heads, -1))
            for part in self._projected(block.attn, x)
        )
        by_row, by_column = self._relative(block.attn, q, window)
        shape = self._constant(np.array([count**2, heads, window**2, window, window]))
        scores = self._op("Reshape", self._op("MatMul", q, self._op("Transpose", k, perm=[0, 1, 3, 2])), shape)
        merged = self._op("MatMul", self._weights(scores, by_row, by_column, (0, 0, 0, -1)), v)
        joined = self._reshaped(self._op("Transpose", merged, perm=[0, 2, 1, 3]), (places.size, -1))
        inverse = np.argsort(by_window, kind="stable")[: side**2]
        return self._op("Gather", joined, self._constant(inverse), axis=0)

    def _global(self, block: Any, x: str) -> str:
        """Attend over the whole tile; return (T, C)."""
        side, heads = self._side, block.attn.num_heads
        x = self._normalized(x, block.norm1)
        q, k, v = (self._by_head(part, (1, side**2, heads, -1)) for part in self._projected(block.attn, x))
        by_row, by_column = self._relative(block.attn, q, side)
        keys = self._op("Transpose", k, perm=[0, 1, 3, 2])
        rows = max(1, _QUERIES // side)
        lengths = [min(rows, side - start) * side for start in range(0, side, rows)]
        attended = []
        parts = [self._split(name, [1] * heads, 1) for name in (q, keys, v, by_row, by_column)]
        for q1, k1, v1, row1, column1 in zip(*parts):
            pieces = []
            for q2, row2, column2 in zip(*(self._split(name, lengths, 2) for name in (q1, row1, column1))):
                shape = self._constant(np.array([1, 1, -1, side, side]))
                scores = self._op("Reshape", self._op("MatMul", q2, k1), shape)
                pieces.append(self._op("MatMul", self._weights(scores, row2, column2, (0, 0, -1, side**2)), v1))
            attended.append(self._op("Concat", *pieces, axis=2))
        merged = self._op("Concat", *attended, axis=1)
        return self._reshaped(self._op("Transpose", merged, perm=[0, 2, 1, 3]), (side**2, -1))

    def _weights(self, scores: str, by_row: str, by_column: str, shape: Sequence[int]) -> str:
        """Add the relative positions to scores (B, heads, T, rows, columns); return their softmax in ``shape``."""
        scores = self._op("Add", scores, self._op("Unsqueeze", by_row, self._constant(np.array([4]))))
        scores = self._op("Add", scores, self._op("Unsqueeze", by_column, self._constant(np.array([3]))))
        return self._op("Softmax", self._reshaped(scores, shape), axis=-1)

    def _relative(self, attention: Any, q: str, extent: int) -> tuple[str, str]:
        """Return the relative positions' part of the scores, by row and by column: (B, heads, T, rows or columns)."""
        import_segment_anything()
        from segment_anything.modeling.image_encoder import get_rel_pos

        tables = [
            get_rel_pos(extent, extent, table).detach().permute(0, 2, 1).numpy()
            for table in (attention.rel_pos_h, attention.rel_pos_w)
        ]
        placed = self._reshaped(q, (0, 0, extent, extent, -1))
        by_row = self._op("MatMul", placed, self._constant(tables[0]))
        turned = self._op("MatMul", self._op("Transpose", placed, perm=[0, 1, 3, 2, 4]), self._constant(tables[1]))
        by_column = self._op("Transpose", turned, perm=[0, 1, 3, 2, 4])
        shape = (0, 0, extent**2, extent)
        return self._reshaped(by_row, shape), self._reshaped(by_column, shape)

    def _projected(self, attention: Any, x: str) -> list[str]:
        """Return queries, keys and values (T, C)."""
        qkv, scale = attention.qkv, float(attention.scale)
        weights, biases = qkv.weight.detach().chunk(3), qkv.bias.detach().chunk(3)
        return [self._linear(x, w * f, b * f) for w, b, f in zip(weights, biases, (1.0, scale, 1.0))]

    def _by_head(self, x: str, shape: Sequence[int]) -> str:
        """(B T, C), taken as (B, T, heads, width), to (B, heads, T, width)."""
        return self._op("Transpose", self._reshaped(x, shape), perm=[0, 2, 1, 3])

    def _normalized(self, x: str, norm: Any) -> str:
        weight, bias = (self._constant(value.detach().numpy()) for value in (norm.weight, norm.bias))
        return self._op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)

    def _linear(self, x: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
        names = (self._constant(weight.detach().T.contiguous().numpy()), self._constant(bias.detach().numpy()))
        return self._op("Gemm", x, *names)

    def _reshaped(self, x: str, shape: Sequence[int]) -> str:
        return self._op("Reshape", x, self._constant(np.array(shape)))

    def _split(self, x: str, lengths: Sequence[int], axis: int) -> list[str]:
        names = [f"n{len(self._nodes)}_{index}" for index in range(len(lengths))]
        inputs = [x, self._constant(np.array(lengths))]
        self._nodes.append(self._onnx.helper.make_node("Split", inputs, names, axis=axis))
        return names

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, values: Array) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
