"""Reading a tile from a store, and the data types of stored features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.libraries import torch
from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Point, Prompts
from geosam_es.inference.decoder import MaskDecoder, load_decoder
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.int8 import from_int8, to_int8
from geosam_es.store.metadata import DTYPES

from .images import orthophotos
from .measure import Bench, Call, mask_iou, take_turns
from .model import Agreement, Goal, Item, Row, Table, Timing
from .polygon import sam_store
from .previews import mini_tiles
from .sam import sam_files, smooth_features

__all__ = ["run"]

_TILE = Tile(0, 0, 0)
_CLICKS_PER_TILE = 16
_FLOAT16_RESOLUTION = 2**-11


class _Loading(NamedTuple):
    """Size and times of a data type, for one SAM tile."""

    tile_bytes: int
    read: Timing
    write: Timing


def run(bench: Bench) -> Iterator[Item]:
    """Measure reading, writing, and the effect of rounding on masks."""
    features = smooth_features()
    files = sam_files(bench.work)
    roots = {dtype: sam_store(bench.work / f"{dtype}.embeddings.zarr", files, features, dtype) for dtype in DTYPES}
    checkpoint = bench.work / "tile.pt"
    torch.save(torch.from_numpy(features), checkpoint)
    readers = {dtype: StoreReader(root) for dtype, root in roots.items()}
    writers = {dtype: StoreWriter(root, readers[dtype].metadata) for dtype, root in roots.items()}
    stored = readers["float16"].decoder
    decoder = load_decoder(stored.prepare_path, stored.decoder_path, bench.threads)
    calls: dict[str, Call] = {
        "torch.load": lambda _: torch.load(checkpoint, weights_only=True),
        "activate": lambda _: decoder.prepare(readers["float16"].read_stored(_TILE)),
    }
    for dtype, reader in readers.items():
        calls[f"read {dtype}"] = partial(_read, reader)
    times = take_turns(calls, bench.runs(60))
    writing = take_turns({dtype: partial(_write, writers[dtype], features[0]) for dtype in DTYPES}, bench.runs(20))
    yield _reading(times, readers["float16"].read(_TILE)["image_embeddings"], features)
    yield Row(
        "activate",
        "tile activation: read (float16) and prepare",
        "",
        times["activate"].median_ms,
        unit="ms",
        ours=times["activate"],
    )
    loading = {d: _Loading(readers[d].metadata.tile_bytes, times[f"read {d}"], writing[d]) for d in DTYPES}
    yield from _types(bench, loading)


def _read(reader: StoreReader, _: int) -> None:
    reader.read_stored(_TILE)


def _write(writer: StoreWriter, features: NDArray[np.float32], _: int) -> None:
    writer.write(_TILE, {"image_embeddings": features})


def _reading(times: Mapping[str, Timing], got: NDArray[np.float32], wanted: NDArray[np.float32]) -> Row:
    difference = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    return Row(
        "read",
        "tile read from the store (float16), file in the cache",
        "torch.load of a 4 MiB .pt file",
        times["read float16"].median_ms / times["torch.load"].median_ms,
        goal=Goal(0.25),
        ours=times["read float16"],
        reference=times["torch.load"],
        agreement=Agreement("1 - largest relative difference", 1 - difference, 1 - _FLOAT16_RESOLUTION),
    )


def _types(bench: Bench, loading: Mapping[str, _Loading]) -> Iterator[Item]:
    """Compare the masks of `mini` from features of each type with those from the encoder's own float32."""
    paths, where = orthophotos(bench.work, bench.runs(99, 1))
    ious: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    for path in paths:
        for dtype, values in ious_on(bench, path).items():
            ious[dtype] += values
    rows = []
    for dtype, cost in loading.items():
        values = ious[dtype]
        rows.append(
            (dtype, cost.tile_bytes / 2**20, cost.write.median_ms, cost.read.median_ms, np.mean(values), min(values))
        )
    yield Table(
        "store_types",
        "Store types",
        ("type", "MiB per tile", "write ms", "read ms", "mask IoU mean", "mask IoU smallest"),
        [tuple(float(cell) if isinstance(cell, np.floating) else cell for cell in row) for row in rows],
        f"Sizes and times of a ViT-B tile; masks of mini on {where}, {len(ious['int8'])} clicks,"
        " compared with float32.",
    )
    yield Row(
        "int8",
        "int8 store: mean IoU of the masks of mini with those from float32",
        f"float32 on {where}",
        float(np.mean(ious["int8"])),
        unit="IoU",
        goal=Goal(0.995, is_least=True),
    )


def ious_on(bench: Bench, path: Path) -> dict[str, list[float]]:
    ious: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    for decoder, features in mini_tiles(bench, path):
        for dtype, values in _ious_of_clicks(decoder, features, bench.runs(_CLICKS_PER_TILE, 4)).items():
            ious[dtype] += values
    return ious


def _ious_of_clicks(
    decoder: MaskDecoder, features: Mapping[str, NDArray[np.float32]], count: int
) -> dict[str, list[float]]:
    exact = decoder.prepare(features)
    contexts = {
        dtype: decoder.prepare({name: rounded_to(values, dtype) for name, values in features.items()})
        for dtype in DTYPES
    }
    ious: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    for x, y in np.random.default_rng(count).uniform(0.1, 0.9, (count, 2)) * TILE_SIZE:
        prompts = Prompts((Point(float(x), float(y)),))
        wanted = decoder.decode(exact, prompts)
        shown = wanted.ranking(ambiguous=True)[0]
        for dtype, context in contexts.items():
            got = decoder.decode(context, prompts).low_res_masks[shown]
            ious[dtype].append(mask_iou(got, wanted.low_res_masks[shown]))
    return ious


def rounded_to(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    if dtype == "int8":
        return from_int8(*to_int8(values[0]))[None]
    rounded: NDArray[Any] = values.astype(dtype)
    return rounded.astype(np.float32)
