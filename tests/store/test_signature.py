from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosam_es.core.window import Window
from geosam_es.errors import SignatureMismatchError
from geosam_es.store.signature import check_signature, pixel_fingerprint, raster_signature, same_pixels, signature
from tests.helpers import make_metadata


def fingerprint(image: np.ndarray) -> str:
    def read(window: Window) -> np.ndarray:
        col, row, width, height = window
        part = image[:, row : row + height, col : col + width]
        assert part.shape[1:] == (height, width)
        return part

    return pixel_fingerprint(image.shape[2], image.shape[1], image.shape[0], read)


@given(st.integers(1, 300), st.integers(1, 300))
def test_windows_lie_inside_any_raster(width: int, height: int) -> None:
    image = np.zeros((1, height, width), np.uint8)
    digest, kind, means = fingerprint(image).split(" ")
    assert len(digest) == 64 and kind == "1xuint8" and len(means.split(",")) == 16


def test_fingerprint_knows_pixels_size_type_and_bands() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 200, 300), dtype=np.uint8)
    changed = image.copy()
    changed[0, -1, -1] ^= 1
    others = [changed, image[:, :-1], image[:2], image.astype(np.uint16)]
    assert fingerprint(image.copy()) == fingerprint(image)
    assert len({fingerprint(other) for other in [image, *others]}) == 5


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 256), (np.uint16, 4000), (np.int16, 4000)])
def test_the_same_image_from_another_decoder(dtype: type, top: int) -> None:
    """No two JPEG or JPEG 2000 libraries round alike; another image differs by more than rounding."""
    random = np.random.default_rng(0)
    image = random.integers(10, top - 10, (3, 200, 300)).astype(dtype)
    rounded = image + random.integers(-9, 10, image.shape).astype(dtype)
    brighter = image + np.array(top // 100 + 1, dtype)
    assert fingerprint(image) != fingerprint(rounded)
    assert same_pixels(fingerprint(image), fingerprint(rounded))
    assert not same_pixels(fingerprint(image), fingerprint(brighter))
    assert not same_pixels(fingerprint(image), fingerprint(image[:, ::-1]))
    assert not same_pixels(fingerprint(image), fingerprint(image.mean(axis=0, keepdims=True).astype(dtype)))
    assert not same_pixels(fingerprint(image), fingerprint(image.astype(np.float32)))


def test_floats_have_one_fingerprint_only() -> None:
    image = np.random.default_rng(0).random((1, 50, 50), np.float32)
    assert len(fingerprint(image)) == 64
    assert not same_pixels(fingerprint(image), fingerprint(image + np.float32(1e-6)))


def test_byte_order_does_not_matter() -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 50, 50)).astype("<u2")
    assert fingerprint(image) == fingerprint(image.astype(">u2"))


def test_first_difference_is_named() -> None:
    metadata = make_metadata(2000, 1000)
    other = replace(metadata, raster=replace(metadata.raster, fingerprint="e" * 64), bands=(1, 1, 1))
    with pytest.raises(SignatureMismatchError) as caught:
        check_signature(Path("a.zarr"), signature(metadata), signature(other), "do this")
    assert caught.value.key == "raster fingerprint"
    assert caught.value.stored == "f" * 64 and caught.value.wanted == "e" * 64
    assert caught.value.user_message.endswith("do this")
    check_signature(Path("a.zarr"), signature(metadata), raster_signature(metadata.raster), "")


def test_tiles_of_another_precision_are_not_mixed() -> None:
    """One that is not told is float32: it takes a store of either kind with it."""
    metadata = make_metadata(100, 80)
    told, short = ({**metadata.model, "precision": name} for name in ("float32", "bfloat16"))
    exact, rough = replace(metadata, model=told), replace(metadata, model=short)
    check_signature(Path("a.zarr"), signature(metadata), signature(exact), "")
    with pytest.raises(SignatureMismatchError, match="precision"):
        check_signature(Path("a.zarr"), signature(exact), signature(rough), "do this")
