"""Loading SAM's weights: Meta's checkpoints, others of the same architectures, or random ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import TILE_SIZE, Encoder, ModelInfo
from geosam_es.store.decoder_files import file_sha256

from ..checkpoints import Checkpoint, checkpoint_path, load_registry
from ..family import Network
from ..fast_decoder.networks import Decode, Prepare
from ..libraries import torch
from .encoder import SamTorchEncoder, TileEncoder
from .segment_anything_import import import_segment_anything

__all__ = [
    "FEATURES",
    "UNKNOWN_LICENCE",
    "Architecture",
    "LoadedSam",
    "State",
    "build",
    "check_architecture",
    "checkpoint_info",
    "detect_architecture",
    "fill",
    "load",
    "load_checkpoint",
    "load_decoder_weights",
    "load_sam",
    "random_sam",
    "read_state",
    "sam_with",
]

Architecture = Literal["vit_b", "vit_l", "vit_h"]

FEATURES: Mapping[str, tuple[int, int, int]] = {"image_embeddings": (256, 64, 64)}
"""Name and (C, h, w) shape of SAM's feature map."""

UNKNOWN_LICENCE = "NOASSERTION"
"""SPDX's value for an unknown licence."""

_ARCHITECTURE_OF_WIDTH: Mapping[int, Architecture] = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_WIDTH_KEY = "image_encoder.patch_embed.proj.weight"
_TINY_PREFIX = "image_encoder.patch_embed.seq."
_HQ_KEY = "mask_decoder.hf_token.weight"
_CHECKPOINT_REMEDY = "give the file with the weights of the model"

State = Mapping[str, torch.Tensor]


@dataclass
class LoadedSam:
    """A SAM network with its weights, in evaluation mode and on the CPU; a `Network`.

    Attributes
    ----------
    network : segment_anything.modeling.Sam
        Typed as Any, because segment_anything has no types.
    info : ModelInfo
        Name, hash, licence and features, as stores record them.
    """

    network: Any
    info: ModelInfo

    def encoder(self, device: str, precision: str, threads: int | None) -> Encoder:
        """Return the image encoder; see `Network.encoder`."""
        return SamTorchEncoder(self, device, precision, threads)

    def tile_network(self) -> torch.nn.Module:
        """Return normalisation and image encoder; see `Network.tile_network`."""
        return TileEncoder(self.network)

    def decoder(self) -> tuple[Prepare, Decode]:
        """Return the fast decoder; see `Network.decoder`."""
        return Prepare(self.network), Decode(self.network)

    def others(self) -> Mapping[str, Network]:
        """Return nothing; see `Network.others`."""
        return {}

    def answer(self, features: Sequence[Any], prompts: Sequence[Any], is_learning: bool = False) -> tuple[Any, Any]:
        """Answer with segment_anything's own code; see `Network.answer`."""
        sparse, dense, position = self.embedded(prompts)
        answer: tuple[Any, Any] = self.network.mask_decoder.predict_masks(features[0], position, sparse, dense)
        return answer

    def embedded(self, prompts: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Return embeddings of points (B, N, 256), of masks (B, 256, 64, 64), and of places (1, 256, 64, 64)."""
        import_segment_anything()
        from segment_anything.utils.onnx import SamOnnxModel

        coords, labels, mask, has_mask = prompts
        wrapped = SamOnnxModel(self.network, return_single_mask=False)
        dense = wrapped._embed_masks(mask, has_mask.reshape(-1, 1, 1, 1))
        return wrapped._embed_points(coords, labels), dense, self.network.prompt_encoder.get_dense_pe()

    def decoder_parts(self) -> dict[str, Any]:
        """Return prompt encoder and mask decoder; see `Network.decoder_parts`."""
        return {"prompt_encoder": self.network.prompt_encoder, "mask_decoder": self.network.mask_decoder}

    def drop_image_encoder(self) -> None:
        """Free the image encoder, most of the weights, and keep what the decoder's training and export need."""
        side: int = self.network.image_encoder.img_size
        self.network.image_encoder = torch.nn.Identity()
        self.network.image_encoder.img_size = side


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedSam:
    """Load one of the three sizes; see `Family.load`."""
    return load_sam(model.name) if checkpoint is None else load_checkpoint(checkpoint, cast(Architecture, model.name))


def load_sam(name_or_checkpoint: str) -> LoadedSam:
    """Load a downloaded model by its name, or a checkpoint by its path.

    Raises
    ------
    ModelError
        If there is no such model or file, it is not downloaded, or the file is damaged.
    """
    names = list(load_registry())
    if name_or_checkpoint in ("mini", *names):
        path = checkpoint_path(name_or_checkpoint)
        sam = load_checkpoint(path)
        if sam.info.name != name_or_checkpoint:
            raise ModelError(
                f"{path} is not the published {name_or_checkpoint}: its SHA-256 is wrong",
                f"run `geosam-es models download {name_or_checkpoint}`, or move it and give its path",
            )
        return sam
    if not Path(name_or_checkpoint).is_file():
        raise ModelError(
            f"{name_or_checkpoint} is neither a model nor a checkpoint file",
            f"give one of {', '.join(names)}, or the path of a .pth file",
        )
    return load_checkpoint(Path(name_or_checkpoint))


def load_checkpoint(checkpoint: Path, architecture: Architecture | None = None) -> LoadedSam:
    """Build a SAM and load its weights from a file.

    Parameters
    ----------
    checkpoint : Path
        Only tensors are unpickled.
    architecture : {"vit_b", "vit_l", "vit_h"}, optional
        The architecture it must have; by default whichever it has.

    Returns
    -------
    LoadedSam
        Its ``info.name`` is that of Meta's model if the file's SHA-256 is the published one, else the file's name
        without suffix.

    Raises
    ------
    ModelError
        If the file is not a checkpoint of SAM, or of another architecture.
    """
    state = read_state(checkpoint)
    found = check_architecture(checkpoint, state, *([architecture] if architecture else []))
    network = build(cast(Architecture, found))
    fill(network, state, checkpoint, f"SAM {found}")
    return LoadedSam(network, checkpoint_info(checkpoint))


def fill(network: Any, state: State, checkpoint: Path, name: str, has_more: bool = False) -> None:
    """Load weights into a network; ``has_more`` tells that unknown ones are no error.

    Raises
    ------
    ModelError
        If weights are missing, unknown, or have another shape.
    """
    wanted = network.state_dict()
    odd = sum(key not in state or state[key].shape != wanted[key].shape for key in wanted)
    unknown = 0 if has_more else len(state.keys() - wanted.keys())
    if odd or unknown:
        raise ModelError(
            f"{checkpoint} is not a complete {name}: {odd} of {len(wanted)} tensors are missing or have another"
            f" shape, and {unknown} are unknown",
            _CHECKPOINT_REMEDY,
        )
    network.load_state_dict(state, strict=not has_more)


def check_architecture(checkpoint: Path, state: State, *wanted: str) -> str:
    """Return the architecture of a checkpoint, and check that it is one of those wanted, by default any of SAM's own.

    Raises
    ------
    ModelError
        If it is another one, or unknown.
    """
    try:
        found = detect_architecture(state)
    except ModelError as error:
        raise ModelError(f"{checkpoint}: {error.problem}", error.remedy) from error
    known = wanted or tuple(_ARCHITECTURE_OF_WIDTH.values())
    if found not in known:
        names = " or ".join(known)
        raise ModelError(
            f"{checkpoint} is a SAM {found}, not {names}", f"choose the model {found}, or the weights of {names}"
        )
    return found


def load_decoder_weights(checkpoint: Path, architecture: str = "") -> LoadedSam:
    """Load only the prompt encoder and the mask decoder, which all of SAM's sizes and many models like it share.

    Parameters
    ----------
    checkpoint : Path
        Any SAM, also one without its image encoder. Only tensors are unpickled.
    architecture : str, optional
        The one that an image encoder in the file must have.

    Returns
    -------
    LoadedSam
        Without an image encoder.

    Raises
    ------
    ModelError
        If the file has no such decoder, or an image encoder of another architecture.
    """
    state = read_state(checkpoint)
    if architecture and any(key.startswith("image_encoder.") for key in state):
        check_architecture(checkpoint, state, architecture)
    nothing: Any = torch.nn.Identity()
    nothing.img_size = TILE_SIZE
    sam = LoadedSam(sam_with(nothing), checkpoint_info(checkpoint))
    own = {key: value for key, value in state.items() if key.split(".")[0] in ("prompt_encoder", "mask_decoder")}
    try:
        sam.network.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(f"{checkpoint} has no complete decoder of a SAM", _CHECKPOINT_REMEDY) from error
    return sam


def random_sam(architecture: Architecture, seed: int) -> LoadedSam:
    """Build a SAM with random weights, for tests and benchmarks; its name is for example ``vit_b-random``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(architecture)
    info = ModelInfo(f"{architecture}-random", _state_sha256(network.state_dict()), UNKNOWN_LICENCE, FEATURES)
    return LoadedSam(network, info)


def detect_architecture(state_dict: State) -> str:
    """Return the architecture of a checkpoint by its name in ``models.json``: a SAM, a MobileSAM or an HQ-SAM.

    Raises
    ------
    ModelError
        If it is not the state of a SAM, or of an unknown size.
    """
    is_hq = _HQ_KEY in state_dict
    if any(key.startswith(_TINY_PREFIX) for key in state_dict):
        return "hq_tiny" if is_hq else "mobile_sam"
    patches = state_dict.get(_WIDTH_KEY)
    if not isinstance(patches, torch.Tensor) or patches.ndim == 0:
        raise ModelError("it has no weights of SAM's image encoder", _CHECKPOINT_REMEDY)
    width = patches.shape[0]
    if width not in _ARCHITECTURE_OF_WIDTH:
        raise ModelError(f"the width of its image encoder, {width}, is not that of a SAM", _CHECKPOINT_REMEDY)
    return f"{'hq_' if is_hq else ''}{_ARCHITECTURE_OF_WIDTH[width]}"


def build(name: Architecture) -> Any:
    """Build a SAM, the weights to be loaded."""
    return import_segment_anything().sam_model_registry[name]()


def sam_with(image_encoder: Any) -> Any:
    """Build a SAM with another image encoder, the weights to be loaded."""
    import_segment_anything()
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    return Sam(
        image_encoder,
        PromptEncoder(embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16),
        MaskDecoder(transformer_dim=256, transformer=transformer),
    ).eval()


def _state_sha256(state: State) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().data)
    return digest.hexdigest()


def read_state(checkpoint: Path) -> State:
    """Read a file of weights, also with the names and the ``model`` or ``state_dict`` around them of training scripts.

    Raises
    ------
    ModelError
        If it is missing or damaged, or has code in it. Only tensors are unpickled.
    """
    if checkpoint.is_dir():
        raise ModelError(f"{checkpoint} is a folder", _CHECKPOINT_REMEDY)
    if not checkpoint.is_file():
        raise ModelError(f"the checkpoint {checkpoint} does not exist", "check the path")
    try:
        if checkpoint.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except ImportError as error:
        remedy = 'install it with `pip install "geosam-es[models]"`'
        raise ModelError(f"safetensors cannot be imported ({error})", remedy) from error
    except Exception as error:  # which error PyTorch raises depends on the content of the file
        raise ModelError(
            f"{checkpoint} is not a file of weights, is damaged, or has code in it, which is not run",
            "download it again, or save it with torch.save(sam.state_dict(), file)",
        ) from error
    for wrapper in ("model", "state_dict"):
        state = state.get(wrapper, state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping):
        raise ModelError(f"{checkpoint} contains a {type(state).__name__}, not weights", _CHECKPOINT_REMEDY)
    named = {name: values for name, values in state.items() if isinstance(name, str)}
    return {
        name[len("module.") :] if name.startswith("module.") else name: values.float()
        for name, values in named.items()
        if isinstance(values, torch.Tensor)
    }


def checkpoint_info(checkpoint: Path) -> ModelInfo:
    """Return name and licence of the published model with the hash of a file, else the file's name."""
    sha256 = file_sha256(checkpoint)
    for published in load_registry().values():
        if published.sha256 == sha256:
            return ModelInfo(published.name, sha256, published.licence, FEATURES)
    return ModelInfo(checkpoint.stem, sha256, UNKNOWN_LICENCE, FEATURES)
