"""SAM 2 and 2.1, and the clicks of SAM 3, as the library transformers implements them.

The three feature maps of a tile are what the decoder reads: the embedding of "no memory" is added, and the convolutions
of the two finer maps are applied, so that a click does not repeat it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from geosam_es.core.prompts import PADDING_LABEL
from geosam_es.errors import ModelError
from geosam_es.inference.encoder import TILE_SIZE, Encoder, ModelInfo
from geosam_es.store.decoder_files import file_sha256

from .checkpoints import REPOSITORY_FILES, Checkpoint, checkpoint_path
from .family import Network
from .fast_decoder.networks import MASK_SIDE, Decode, Prepare
from .libraries import torch
from .sam.weights import UNKNOWN_LICENCE, fill
from .sam2_meta import SIZES, meta_config, read_meta_state, size_of_state
from .torch_encoder import Precision, TorchEncoder, float32_device

__all__ = [
    "CONFIG_FILE",
    "LoadedSam2",
    "folder_of",
    "is_folder",
    "load",
    "load_decoder_weights",
    "model_class",
    "random_sam2",
    "read_config",
]

CONFIG_FILE, WEIGHTS_FILE = REPOSITORY_FILES

_CLASSES = {"sam2": "Sam2", "sam2_video": "Sam2", "sam3_tracker": "Sam3Tracker", "sam3_tracker_video": "Sam3Tracker"}
_CLASSES |= {"sam3_video": "Sam3Tracker", "edgetam": "Sam2", "edgetam_video": "Sam2"}
"""What transformers calls the model that takes clicks, by the ``model_type`` of ``config.json``."""

_MEAN_AND_DEVIATION = {
    "Sam2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "Sam3Tracker": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_TILE_BYTES = 2 << 30
"""Peak memory of a tile on a GPU, rounded up."""

_SAM_NAMES = {
    "o_proj": "out_proj",
    "num_attention_heads": "num_heads",
    "layer_norm_final_attn": "norm_final_attn",
    **{f"layer_norm{number}": f"norm{number}" for number in (1, 2, 3, 4)},
}
"""Names in transformers' decoder, and in segment_anything's."""

_REMEDY = f"give the folder of the model with {CONFIG_FILE} and {WEIGHTS_FILE}, as on huggingface.co"


class _TileEncoder(torch.nn.Module):
    """Normalisation, image encoder, and what the decoder would do to its maps at every click."""

    mean: torch.Tensor
    deviation: torch.Tensor
    no_memory: torch.Tensor

    def __init__(self, model: Any, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(value).reshape(1, 3, 1, 1) * 255)
        self.register_buffer("no_memory", model.no_memory_embedding.detach().reshape(1, -1, 1, 1))
        self.vision, self.side = model.vision_encoder, int(model.prompt_encoder.input_image_size)
        self.fine = torch.nn.ModuleList([model.mask_decoder.conv_s0, model.mask_decoder.conv_s1])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map uint8 (B, 1024, 1024, 3) to the maps of `LoadedSam2.info`."""
        pixels = images.permute(0, 3, 1, 2).float()
        if self.side != TILE_SIZE:
            size = (self.side, self.side)
            pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear")
        finest, finer, coarse = self.vision((pixels - self.mean) / self.deviation).fpn_hidden_states[:3]
        return coarse + self.no_memory, self.fine[1](finer), self.fine[0](finest)


class LoadedSam2:
    """A SAM 2 or SAM 3 with its weights; see `Network`.

    Parameters
    ----------
    model : transformers.Sam2Model or Sam3TrackerModel
    name, sha256, licence : str
        For `ModelInfo`.
    """

    def __init__(self, model: Any, name: str, sha256: str, licence: str) -> None:
        self.model = model.eval()
        side = model.prompt_encoder.image_embedding_size[0]
        features = {
            "image_embeddings": (256, side, side),
            "high_res_feats_1": (64, 2 * side, 2 * side),
            "high_res_feats_0": (32, 4 * side, 4 * side),
        }
        self.info = ModelInfo(name, sha256, licence, features)

    @property
    def network(self) -> Any:
        """Prompt encoder and mask decoder by segment_anything's names."""
        return _as_sam(self.model)

    def encoder(self, device: str, precision: str, threads: int | None) -> Encoder:
        """Return the image encoder; see `Network.encoder`."""
        resolved = float32_device(device, precision, self.info.name)
        return TorchEncoder(self.tile_network(), self.info, resolved, cast(Precision, precision), _TILE_BYTES)

    def tile_network(self) -> torch.nn.Module:
        """Return normalisation and image encoder; see `Network.tile_network`."""
        return _TileEncoder(self.model, *_MEAN_AND_DEVIATION[type(self.model).__name__[: -len("Model")]])

    def decoder(self) -> tuple[Prepare, Decode]:
        """Return the fast decoder; see `Network.decoder`."""
        return Prepare(self.network), Decode(self.network)

    def others(self) -> Mapping[str, Network]:
        """Return nothing; see `Network.others`."""
        return {}

    def answer(self, features: Sequence[Any], prompts: Sequence[Any], is_learning: bool = False) -> tuple[Any, Any]:
        """Answer with transformers' own code; see `Network.answer`."""
        coords, labels, mask, has_mask = prompts
        if not bool((labels[0] == PADDING_LABEL).any()):
            coords = torch.nn.functional.pad(coords, (0, 0, 0, 1))
            labels = torch.nn.functional.pad(labels, (0, 1), value=PADDING_LABEL)
        encoder, decoder, count = self.model.prompt_encoder, self.model.mask_decoder, len(coords)
        # From the centres of the tile's pixels to those of the model's.
        coords = (coords + 0.5) * (encoder.input_image_size / TILE_SIZE) - 0.5
        sparse = encoder._embed_points(coords.unsqueeze(1), labels.unsqueeze(1).long(), pad=False)
        has = has_mask.reshape(-1, 1, 1, 1)
        dense = has * encoder.mask_embed(_resized(mask, encoder.mask_input_size[0]))
        dense = dense + (1 - has) * encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        coarse, finer, finest = (one.expand(count, -1, -1, -1) for one in features)
        position = self.model.get_image_wide_positional_embeddings().expand(count, -1, -1, -1)
        is_checked = decoder.config.dynamic_multimask_via_stability and not is_learning

        def all_masks(masks: torch.Tensor, scores: torch.Tensor) -> list[torch.Tensor]:
            own = type(decoder)._dynamic_multimask_via_stability
            first = own(decoder, masks, scores) if is_checked else (masks[:, :, :1], scores[:, :, :1])
            return [torch.cat([one, four[:, :, 1:]], dim=2) for one, four in zip(first, (masks, scores))]

        # The decoder returns one or three masks. This is where it has all four, outside of training.
        decoder._dynamic_multimask_via_stability = all_masks
        decoder.dynamic_multimask_via_stability, decoder.training = True, False
        masks, scores = decoder(coarse, position, sparse, dense, False, [finest, finer])[:2]
        del decoder._dynamic_multimask_via_stability
        return _resized(masks[:, 0], MASK_SIDE), scores[:, 0]

    def decoder_parts(self) -> dict[str, Any]:
        """Return prompt encoder and mask decoder; see `Network.decoder_parts`."""
        return {"prompt_encoder": self.model.prompt_encoder, "mask_decoder": self.model.mask_decoder}

    def drop_image_encoder(self) -> None:
        """Free the image encoder; see `Network.drop_image_encoder`."""
        self.model.vision_encoder = torch.nn.Identity()


def _resized(masks: torch.Tensor, side: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(masks, size=(side, side), mode="bilinear")


def _as_sam(model: Any) -> SimpleNamespace:
    """Return prompt encoder and mask decoder by segment_anything's names; the weights are shared."""
    prompts, decoder = model.prompt_encoder, model.mask_decoder
    for module in decoder.transformer.modules():
        # Not set as attributes, which would register them a second time.
        vars(module).update({new: getattr(module, old) for old, new in _SAM_NAMES.items() if hasattr(module, old)})
    mask, config = prompts.mask_embed, decoder.config
    is_checked = config.dynamic_multimask_via_stability
    stability = (config.dynamic_multimask_stability_delta, config.dynamic_multimask_stability_thresh)
    return SimpleNamespace(
        prompt_encoder=SimpleNamespace(
            get_dense_pe=model.get_image_wide_positional_embeddings,
            # Prompts are in pixels of the tile.
            input_image_size=(TILE_SIZE, TILE_SIZE),
            pe_layer=SimpleNamespace(positional_encoding_gaussian_matrix=prompts.shared_embedding.positional_embedding),
            not_a_point_embed=prompts.not_a_point_embed,
            point_embeddings=[SimpleNamespace(weight=weight) for weight in prompts.point_embed.weight.split(1)],
            no_mask_embed=prompts.no_mask_embed,
            mask_downscaling=[
                *(mask.conv1, mask.layer_norm1, mask.activation),
                *(mask.conv2, mask.layer_norm2, mask.activation, mask.conv3),
            ],
            is_always_padded=True,
        ),
        mask_decoder=SimpleNamespace(
            transformer=decoder.transformer,
            iou_token=decoder.iou_token,
            mask_tokens=decoder.mask_tokens,
            num_mask_tokens=decoder.num_mask_tokens,
            obj_score_token=decoder.obj_score_token,
            output_upscaling=[
                *(decoder.upscale_conv1, decoder.upscale_layer_norm, decoder.activation),
                *(decoder.upscale_conv2, decoder.activation),
            ],
            output_hypernetworks_mlps=[
                SimpleNamespace(layers=[one.proj_in, *one.layers, one.proj_out])
                for one in decoder.output_hypernetworks_mlps
            ],
            iou_prediction_head=decoder.iou_prediction_head,
            has_fine_maps=True,
            stability=stability if is_checked else None,
        ),
    )


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedSam2:
    """Load a model; see `Family.load`."""
    if checkpoint is None:
        return _load_folder(checkpoint_path(model.name), model.name, model.licence, model.family)
    # The licence of SAM 3 holds for whatever is made of it. Other weights of the user may have any licence.
    licence = model.licence if not model.repository else UNKNOWN_LICENCE
    if model.family == "sam2" and not is_folder(checkpoint):
        return _load_meta(checkpoint, model.name, licence)
    folder = folder_of(checkpoint)
    loaded = _load_folder(folder, folder.resolve().name, licence, model.family)
    _check_size(folder, loaded.model.state_dict(), model.name)
    return loaded


def load_decoder_weights(checkpoint: Path) -> LoadedSam2:
    """Load a decoder of any size, of SAM 2 or 3; see `Family.load_decoder_weights`."""
    if is_folder(checkpoint):
        loaded = _load_folder(folder_of(checkpoint), checkpoint.name, UNKNOWN_LICENCE, "sam")
    else:
        loaded = _load_meta(checkpoint, None, UNKNOWN_LICENCE)
    loaded.drop_image_encoder()
    return loaded


def is_folder(checkpoint: Path) -> bool:
    """Tell whether weights come with a ``config.json``: as a folder, or as a file in one."""
    is_named = checkpoint.name in REPOSITORY_FILES and checkpoint.with_name(CONFIG_FILE).is_file()
    return is_named or checkpoint.is_dir()


def folder_of(checkpoint: Path) -> Path:
    """Return the folder of weights for which `is_folder` holds."""
    return checkpoint.parent if checkpoint.name in REPOSITORY_FILES else checkpoint


def _check_size(path: Path, state: dict[str, torch.Tensor], name: str) -> None:
    size = size_of_state(state)
    if size not in (None, name):
        raise ModelError(f"{path} is {size}, not {name}", f"choose the model {size}")


def _load_meta(checkpoint: Path, wanted: str | None, licence: str) -> LoadedSam2:
    state = read_meta_state(checkpoint)
    name = wanted or size_of_state(state) or next(iter(SIZES))
    _check_size(checkpoint, state, name)
    model = model_class("sam2")(meta_config(name))
    fill(model, state, checkpoint, name, has_more=True)
    return LoadedSam2(model, checkpoint.stem, file_sha256(checkpoint), licence)


def _load_folder(folder: Path, name: str, licence: str, family: str) -> LoadedSam2:
    weights, config = read_config(folder, family)
    kind = str(config["model_type"])
    try:
        model, report = model_class(kind).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except ModelError:
        raise
    except Exception as error:  # safetensors and transformers raise errors of many kinds for a damaged file
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(
            f"{weights} is damaged, or does not fit its {CONFIG_FILE} ({reason})", "download the model again"
        ) from error
    odd = len(report["missing_keys"]) + len(report["mismatched_keys"])
    if odd:
        raise ModelError(f"{weights} lacks {odd} of the tensors of {kind}, or has them in another shape", _REMEDY)
    return LoadedSam2(model.float(), name, file_sha256(weights), licence)


def read_config(folder: Path, family: str) -> tuple[Path, dict[str, Any]]:
    """Return the weights of a folder as on huggingface.co, and the content of its ``config.json``.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the model is of another family.
    """
    weights, described = folder / WEIGHTS_FILE, folder / CONFIG_FILE
    if not folder.exists():
        raise ModelError(f"{folder} does not exist", "check the path")
    if not weights.is_file() or not described.is_file():
        raise ModelError(f"{folder} has no {WEIGHTS_FILE if described.is_file() else CONFIG_FILE}", _REMEDY)
    try:
        config = json.loads(described.read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{described} is damaged", "download the model again") from error
    if kind not in _CLASSES or not kind.startswith(family):
        raise ModelError(f"{folder} contains a model of type {kind}, not {family}", "choose the folder of that model")
    return weights, config


def random_sam2(seed: int, config: Any, build: Callable[[Any], Any] | None = None) -> LoadedSam2:
    """Build a model with random weights, for tests and benchmarks.

    Parameters
    ----------
    seed : int
    config : transformers.Sam2Config or Sam3TrackerConfig
    build : callable, optional
        Builds the model in place of the class of transformers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (build or model_class(config.model_type))(config)
        with torch.no_grad():
            # Those of transformers are so small that all masks are alike.
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            model.no_memory_embedding.normal_()
    return LoadedSam2(model, f"{config.model_type}-random", "0" * 64, UNKNOWN_LICENCE)


def model_class(kind: str) -> Any:
    """Return the class of transformers for a ``model_type``.

    Raises
    ------
    ModelError
        If transformers is not installed, or too old.
    """
    try:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()  # no tables of missing weights: an error says it in a sentence
        return getattr(transformers, f"{_CLASSES[kind]}Model")
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"transformers with {_CLASSES[kind]}Model cannot be imported ({error})",
            'install it with `pip install -U "geosam-es[models]"`',
        ) from error
