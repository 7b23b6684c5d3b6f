"""The decoder that training starts from, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import read_model_info
from geosam_es.store import StoreReader
from geosam_es.store.decoder_files import plain_sha256
from geosam_es.store.decoders import ORIGINAL, find_decoder

from ..evaluation.named_decoder import NamedDecoder, find_named_decoder
from ..models.checkpoints import checkpoint_path, load_registry, mini_folder
from ..models.family import Network, load_decoder_weights
from ..models.libraries import torch
from . import mini_decoder
from .adapter import AdaptedDecoder, load_adapter
from .mini_decoder import MiniDecoder
from .sam_decoder import SamDecoder
from .training_samples import FEATURE
from .tunable_decoder import TunableDecoder

__all__ = ["TUNED_FILE", "Base", "load_base", "model_folder", "save_weights", "with_weights"]

TUNED_FILE = "tuned.pt"
_WEIGHTS = "weights"

_FAMILIES = {"high_res_feats_0": "edgetam", "hq_features": "hq_sam", FEATURE: "sam"}
"""Families by the feature map that they have and none further down. That of EdgeTAM reads SAM 2 and 3 too."""

_CHANNELS = 256
"""Of the first feature map, for all of them."""


class Base(NamedTuple):
    """The decoder that training starts from.

    Attributes
    ----------
    decoder : TunableDecoder
    before : NamedDecoder
        The same decoder as ONNX files, for the comparison.
    channels : int
        Channels of the stored features.
    """

    decoder: TunableDecoder
    before: NamedDecoder
    channels: int


def load_base(reader: StoreReader, name: str | None, checkpoint: Path | None, train_prompt_encoder: bool) -> Base:
    """Load the decoder to tune.

    Parameters
    ----------
    reader : StoreReader
    name : str, optional
        See `find_named_decoder`. Default: the active decoder of the store; for SAM and models like it, the store's
        original one.
    checkpoint : Path, optional
        The model's weights. Default: the downloaded ones. For `mini`, see `model_folder`.
    train_prompt_encoder : bool
        Not for `mini`.

    Raises
    ------
    ModelError
        If the weights are missing, damaged, or not those of the store's model, or the model cannot be tuned.
    """
    model = reader.metadata.model
    features = reader.metadata.features
    channels = features[FEATURE][0] if FEATURE in features else 0
    if channels == mini_decoder.FEATURE_CHANNELS:
        return _load_mini(reader, name, checkpoint, train_prompt_encoder)
    if channels == _CHANNELS:
        return _load_sam(reader, _family(reader), name, checkpoint, train_prompt_encoder)
    raise ModelError(
        f"{reader.root} was encoded with {model['name']}, whose decoder cannot be fine-tuned",
        f"use a store of mini, {', '.join(load_registry())}",
    )


def _family(reader: StoreReader) -> str:
    """Return the family of the model, which stores of the user's own weights do not tell."""
    name, features = reader.metadata.model["name"], reader.metadata.features
    known = load_registry().get(name)
    return known.family if known else next(_FAMILIES[feature] for feature in _FAMILIES if feature in features)


def _load_mini(reader: StoreReader, name: str | None, checkpoint: Path | None, train_prompt_encoder: bool) -> Base:
    if checkpoint is not None and not checkpoint.is_dir():
        raise ModelError(
            "mini has no checkpoint, it starts from the decoder of the store",
            "omit --checkpoint, or give the folder of the model",
        )
    if train_prompt_encoder:
        raise ModelError("mini has no separate prompt encoder", "omit --prompt-encoder")
    before = find_named_decoder(name, reader)
    if before.prepare_path is None:
        raise ModelError(f"{before.decoder_path} is not a decoder of mini", "choose another --decoder")
    decoder: TunableDecoder = MiniDecoder.from_onnx(before.prepare_path, before.decoder_path)
    adapter = load_adapter(before.prepare_path, mini_decoder.FEATURE_CHANNELS)
    if adapter is not None:
        decoder = AdaptedDecoder(decoder, mini_decoder.FEATURE_CHANNELS, adapter)
    return Base(decoder, before, mini_decoder.FEATURE_CHANNELS)


def model_folder(reader: StoreReader, given: Path | None) -> Path:
    """Return the folder of the model that encoded a store: the one given, otherwise the embedded one.

    Raises
    ------
    ModelError
        If it is another model.
    """
    folder = mini_folder() if given is None else given
    own = reader.metadata.model
    if plain_sha256(read_model_info(folder).encoder_sha256) != plain_sha256(str(own["encoder_sha256"])):
        raise ModelError(
            f"{reader.root} was encoded with {own['name']}, which is not the model in {folder}",
            "give the folder of its model with --checkpoint, or use --depth adapter",
        )
    return folder


def _load_sam(
    reader: StoreReader, family: str, name: str | None, checkpoint: Path | None, train_prompt_encoder: bool
) -> Base:
    before, tuned = NamedDecoder.of(find_decoder(reader.root, ORIGINAL)), None
    if name is not None and name != ORIGINAL:
        before = find_named_decoder(name, reader)
        tuned = before.decoder_path.with_name(TUNED_FILE)
        if not tuned.is_file():
            raise ModelError(f"{name} has no {TUNED_FILE}", "choose a folder that geosam-es finetune wrote")
    own = reader.metadata.model
    sam = _downloaded(family, str(own["name"])) if checkpoint is None else load_decoder_weights(family, checkpoint)
    if sam.info.encoder_sha256 != own["encoder_sha256"]:
        raise ModelError(
            f"{reader.root} was encoded with {own['name']}, not with {checkpoint or sam.info.name}",
            "choose its checkpoint with --checkpoint",
        )
    decoder: TunableDecoder = SamDecoder(sam, train_prompt_encoder)
    if tuned is not None:
        decoder = with_weights(decoder, tuned)
    return Base(decoder, before, _CHANNELS)


def _downloaded(family: str, name: str) -> Network:
    try:
        return load_decoder_weights(family, checkpoint_path(name))
    except ModelError as error:
        is_known = name in load_registry()
        raise ModelError(
            f"The weights of {name}, the model of the store, are missing{f' ({error.problem})' if is_known else ''}",
            f"choose them with --checkpoint{f', or {error.remedy}' if is_known else ''}",
        ) from error


def save_weights(decoder: TunableDecoder, path: Path) -> None:
    """Write the weights of a decoder; the file holds tensors only."""
    torch.save({_WEIGHTS: decoder.module.state_dict()}, path)


def with_weights(decoder: TunableDecoder, path: Path) -> TunableDecoder:
    """Return a decoder with weights that `save_weights` wrote, behind an adapter if they are those of one.

    Raises
    ------
    ModelError
        If they are damaged or belong to another decoder.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)[_WEIGHTS]
        if any(name.startswith("adapter.") for name in state):
            decoder = AdaptedDecoder(decoder, len(state["adapter.up.bias"]))
        decoder.module.load_state_dict(state)
    # torch.load raises errors of many kinds for a damaged file.
    except Exception as error:
        raise ModelError(f"{path} does not contain the weights of this decoder", "fine-tune it again") from error
    return decoder
