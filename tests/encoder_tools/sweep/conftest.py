"""What the rows share: a folder of their own, and stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from geosam_es.inference import session
from geosam_es.inference.decoder import MaskDecoder, load_decoder
from tests.encoder_tools.sweep.commands import shared, spotlight
from tests.encoder_tools.sweep.scene import tif


@pytest.fixture(autouse=True)
def _in_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _decoders_loaded_once() -> Iterator[None]:
    """Load a decoder once for each content: that takes half of the time of a command."""
    loaded: dict[tuple[object, ...], MaskDecoder] = {}

    def load_once(prepare: Path | None, decoder: Path, threads: int | None = None) -> MaskDecoder:
        if prepare is None or not prepare.is_file() or not decoder.is_file():
            return load_decoder(prepare, decoder, threads)
        key = (prepare.read_bytes(), decoder.read_bytes(), threads)
        if key not in loaded:
            loaded[key] = load_decoder(prepare, decoder, threads)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load_decoder", load_once)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that rows on prompts and outputs share; a.tif is beside it."""
    return shared(tmp_path_factory.mktemp("shared"), tif, "mini")[1]


@pytest.fixture(scope="session")
def fast_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the fast model, for rows on names."""
    return shared(tmp_path_factory.mktemp("fast"), tif, spotlight())[1]
