"""The decoder of `mini` for training, with the weights of its ONNX files.

Stores have no other weights than those of their graphs, which were exported from the folded network
(`mini.fold_batch_norm`) and name them after its modules. The folded network can be trained, because a folded batch
normalisation is a scale and a bias of its convolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError

from ..mini import onnx_weights
from ..mini.blocks import channels_last
from ..mini.config import PACKED_CHANNELS
from ..mini.export import export_decoder_graphs
from ..mini.fold_batch_norm import fold
from ..mini.losses import answer_loss, target_of
from ..mini.network import MiniNet
from ..models.libraries import torch
from .tunable_decoder import Answer, PromptTensors

__all__ = ["FEATURE_CHANNELS", "MiniDecoder", "fast", "graph_weights"]

FEATURE_CHANNELS = PACKED_CHANNELS
_PART = re.compile(r"\d+/")
"""Prefix of the names of a graph that was joined with others."""

_REMEDY = "encode the raster again with this version of GeoSAM-ES"


class MiniDecoder:
    """A folded decoder of `mini` that can be trained; see `TunableDecoder`.

    Parameters
    ----------
    module : PromptDecoder
        Folded.
    """

    window_cells = (20, 28, 40, 52, 64)
    objects_at_once = 6
    learning_rate = 2e-4

    def __init__(self, module: torch.nn.Module) -> None:
        self.module: Any = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module.requires_grad_(True)
        # The biases of a pixel shuffle, one for each position, are buffers of the folded network.
        for owner in module.modules():
            for name, buffer in list(owner.named_buffers(recurse=False)):
                if name.startswith("pattern"):
                    delattr(owner, name)
                    owner.register_parameter(name, torch.nn.Parameter(buffer.detach().clone()))

    @classmethod
    def from_onnx(cls, prepare_path: Path, decoder_path: Path) -> MiniDecoder:
        """Load the weights of a store's graphs.

        Raises
        ------
        ModelError
            If the files do not belong to this version of `mini`.
        """
        with torch.random.fork_rng(devices=[]):
            module = fold(MiniNet()).decoder
        wanted = module.state_dict()
        found = graph_weights(prepare_path, "", wanted, "context.") | graph_weights(decoder_path, "decoder.", wanted)
        # The exported context adds these biases, so that the decoder need not add them for each prompt.
        unused = {name for name in wanted if name not in found and name.endswith(".pattern")}
        missing = wanted.keys() - found.keys() - unused
        misshapen = [name for name in found if tuple(found[name].shape) != tuple(wanted[name].shape)]
        if missing or misshapen:
            example = sorted(missing)[0] if missing else misshapen[0]
            raise ModelError(f"{decoder_path} belongs to another version of mini ({example} differs)", _REMEDY)
        state = {name: wanted[name] for name in unused}
        state.update({name: torch.from_numpy(np.array(values, np.float32)) for name, values in found.items()})
        module.load_state_dict(state)
        return cls(module)

    def prepare(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the context of features (1, 512, h, w)."""
        context4, context8, context16, *others, cost8, cost16 = self.module.context(*features)
        maps = (channels_last(part) for part in (context4, context8, context16))
        # The gradient of the paths would take a seventh of the time.
        return *maps, *others, cost8.detach(), cost16.detach()

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        masks, scores, _ = self.module(context, *prompts)
        return Answer(masks, scores)

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss."""
        with fast():
            masks, scores, coarse = self.module(context, *prompts)
        return Answer(masks, scores), answer_loss(masks, scores, coarse, target_of(truth), ambiguous)

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``."""
        export_decoder_graphs(self.module.eval(), folder)


def fast() -> torch.autocast:
    """Compute in bfloat16 where the processor has instructions for it."""
    is_known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(is_known and is_known()))


def graph_weights(path: Path, wrapper: str, wanted: Mapping[str, Any], prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the weights of a graph by their names in a module.

    Parameters
    ----------
    path : Path
    wrapper : str
        Prefix that the names in the graph have and those in the module have not.
    wanted : mapping
        With the names in the module as keys; other weights are left out.
    prefix : str
        Prefix that the names in the module have and those in the graph have not.

    Raises
    ------
    ModelError
        If it is not an ONNX file.
    """
    found = {}
    for name, values in onnx_weights.graph_weights(path).items():
        full = prefix + _PART.sub("", name, count=1).removeprefix(wrapper)
        if full in wanted:
            found[full] = values
    return found
