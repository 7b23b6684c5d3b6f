"""A residual low-rank network over the stored features, which becomes a part of ``prepare.onnx``.

It changes what the decoder reads, for any model, without encoding again and at no cost per click.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from geosam_es.store.layout import PREPARE_FILE

from ..mini.export import export_graph
from ..models.libraries import import_onnx, torch
from ..models.onnx_graphs import chain
from .training_samples import FEATURE
from .tunable_decoder import Answer, PromptTensors, TunableDecoder

__all__ = ["AdaptedDecoder", "Adapter", "load_adapter"]

_WIDTH = 64
_ADAPTED = "adapted"
_WEIGHT = re.compile(r"0/adapter\.(\w+\.\w+?)(_half)?")


class Adapter(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """``x + up(mix(down(x)))``; ``up`` is zero at first, so that a new adapter changes nothing.

    Parameters
    ----------
    channels : int
        Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(channels, _WIDTH, 1)
        self.mix = torch.nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.up = torch.nn.Conv2d(_WIDTH, channels, 1)
        for parameter in self.up.parameters():
            torch.nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features (B, C, h, w) to the same shape."""
        y: torch.Tensor = self.up(torch.relu(self.mix(torch.relu(self.down(x)))))
        return x + y


class AdaptedDecoder:
    """A decoder behind an adapter; see `TunableDecoder`.

    Parameters
    ----------
    decoder : TunableDecoder
    adapter : Adapter, optional
        Default: a new one.
    channels : int
        Channels of the features.
    """

    def __init__(self, decoder: TunableDecoder, channels: int, adapter: Adapter | None = None) -> None:
        self._decoder = decoder
        self._channels = channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._adapter = adapter or Adapter(channels)
        parts = {"decoder": decoder.module, "adapter": self._adapter}
        self.module: torch.nn.Module = torch.nn.ModuleDict(parts)
        self.window_cells = decoder.window_cells
        self.objects_at_once = decoder.objects_at_once
        self.learning_rate = decoder.learning_rate

    def prepare(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the context of adapted features; only the first map is adapted."""
        return self._decoder.prepare(self._adapter(features[0]), *features[1:])

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        return self._decoder.decode(context, prompts)

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss."""
        return self._decoder.learn(context, prompts, truth, ambiguous)

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx``, which begins with the adapter, and ``decoder.onnx``."""
        self.module.eval()
        self._decoder.export(folder)
        onnx = import_onnx()
        whole = onnx.load(str(folder / PREPARE_FILE))
        given = {item.name: item for item in whole.graph.input}
        size = given[FEATURE].type.tensor_type.shape.dim[2].dim_value
        given[FEATURE].name = _ADAPTED
        for node in whole.graph.node:
            node.input[:] = [_ADAPTED if name == FEATURE else name for name in node.input]
        with TemporaryDirectory(dir=folder) as work:
            path = Path(work, PREPARE_FILE)
            features = torch.zeros(1, self._channels, size, size)
            # Named, so that `load_adapter` finds its weights.
            named = torch.nn.Sequential(OrderedDict(adapter=self._adapter))
            export_graph(named, (features,), path, ([FEATURE], [_ADAPTED]), {})
            first = onnx.load(str(path))
        joined = chain([first, whole], [item.name for item in whole.graph.output])
        onnx.save(joined, str(folder / PREPARE_FILE))


def load_adapter(prepare_path: Path, channels: int) -> Adapter | None:
    """Return the adapter in a ``prepare.onnx``, None if it has none."""
    onnx = import_onnx()
    state: dict[str, Any] = {}
    for tensor in onnx.load(str(prepare_path)).graph.initializer:
        found = _WEIGHT.fullmatch(tensor.name)
        if found:
            state[found[1]] = torch.from_numpy(onnx.numpy_helper.to_array(tensor).astype("float32"))
    if not state:
        return None
    adapter = Adapter(channels)
    adapter.load_state_dict(state)
    return adapter
