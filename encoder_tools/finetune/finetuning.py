"""A tuning from beginning to end: objects, parts, training, comparison with what there was before, files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosam_es.errors import ModelError, StoreError, VectorError
from geosam_es.inference.decoder import load_decoder
from geosam_es.store import StoreReader

from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.ground_truth import TruthObject, locate, read_truth
from ..evaluation.prompting import parse_kinds
from .base_decoder import TUNED_FILE, Base, load_base, save_weights
from .decoder_folder import BEFORE, TUNED, Facts, OutputFolder, Tuned
from .spatial_split import MIN_TRAINING, part_from_layer, split_by_space
from .training import EpochReport, Trained, TuneOptions, train
from .training_samples import FeatureCache, Sample, make_samples

__all__ = ["Events", "Request", "finetune"]

_VALIDATION_SHARE = 0.15
_MIN_FOR_VALIDATION = 20
"""Objects to learn from, below which none are spared to stop by."""

_MOST_VALIDATION = 60
_REPORT_PROMPTS = "point,box,clicks:5"

SHARED_TILES_NOTE = (
    "The objects lie on tiles that hang together, so those held out share tiles with those learnt from, at a distance:"
    " figures for another place may be lower."
)
NO_HOLDOUT_NOTE = "No objects were held out: the figures are of the objects it learnt from, and say nothing of others."


@dataclass(frozen=True)
class Request:
    """What is to be tuned on what.

    Attributes
    ----------
    stores : sequence of Path
        Of one encoder.
    truth : Path
        Layer of polygons.
    out : Path
        Folder for the tuned decoder.
    class_field, class_value : str, optional
        Only objects of this class.
    holdout : float or Path
        Share of the objects kept to test, 0 for none, or a layer of its own.
    base : str, optional
        Decoder to start from.
    checkpoint : Path, optional
        SAM's weights.
    train_prompt_encoder : bool
    options : TuneOptions
    resume, overwrite : bool
        What to do with a folder that is there already.
    threads : int, optional
        Of the comparison.
    """

    stores: Sequence[Path]
    truth: Path
    out: Path
    class_field: str | None = None
    class_value: str | None = None
    holdout: float | Path = 0.2
    base: str | None = None
    checkpoint: Path | None = None
    train_prompt_encoder: bool = False
    options: TuneOptions = field(default_factory=TuneOptions)
    resume: bool = False
    overwrite: bool = False
    threads: int | None = None


def _ignore(*_: object) -> None:
    """Take whatever is told, and do nothing."""


@dataclass(frozen=True)
class Events:
    """What a caller is told on the way.

    Attributes
    ----------
    parts : callable
        Called with the parts before the training.
    epoch : callable
        Called after each epoch.
    comparing : callable
        Called with the objects compared and their number.
    """

    parts: Callable[[Parts], None] = _ignore
    epoch: Callable[[EpochReport], None] = _ignore
    comparing: Callable[[int, int], None] = _ignore


@dataclass(frozen=True)
class Parts:
    """What each object is for.

    Attributes
    ----------
    train, validation, held : list of Sample
    left_out : dict of str to str
    notes : list of str
        What a reader of the figures must know.
    """

    train: list[Sample]
    validation: list[Sample]
    held: list[Sample]
    left_out: dict[str, str]
    notes: list[str]


def finetune(request: Request, events: Events | None = None) -> Tuned:
    """Tune a decoder.

    Parameters
    ----------
    request : Request
    events : Events, optional

    Returns
    -------
    Tuned

    Raises
    ------
    GeoSamError
        If something is wrong with the stores, the layer or the options: then nothing is written. What a training that
        was cut short wrote stays, to be gone on from.
    """
    told = events or Events()
    readers = [StoreReader(path) for path in request.stores]
    _check_stores(readers)
    parts = make_parts(readers, request)
    base = load_base(readers[0], request.base, request.checkpoint, request.train_prompt_encoder)
    with OutputFolder(request.out, request.resume, request.overwrite) as output:
        told.parts(parts)
        cache = FeatureCache(readers)
        trained = train(
            base.decoder,
            cache,
            parts.train,
            parts.validation,
            request.options,
            request.out,
            _signature(readers, request, base),
            told.epoch,
        )
        with output.staging() as folder:
            base.decoder.export(folder)
            save_weights(base.decoder, folder / TUNED_FILE)
            evaluation = _compare(readers, parts, base, folder, request, told)
            return output.finish(folder, _facts(readers, request, parts, base, trained), evaluation, readers)


def _check_stores(readers: Sequence[StoreReader]) -> None:
    first = readers[0].metadata.model
    for reader in readers[1:]:
        if reader.metadata.model["encoder_sha256"] != first["encoder_sha256"]:
            raise StoreError(
                f"{reader.root} was made with another model than {readers[0].root}",
                "give stores that were encoded with one model",
            )


def make_parts(readers: Sequence[StoreReader], request: Request) -> Parts:
    """Read the truth and part it by space; see `split` for how.

    Raises
    ------
    VectorError
        If there are too few objects.
    """
    samples, left_out = _samples(readers, request.truth, request)
    if len(samples) < MIN_TRAINING:
        raise VectorError(
            f"{request.truth} has {len(samples)} objects that can be learnt from, and at least {MIN_TRAINING} are"
            " needed",
            "draw some more",
        )
    notes = []
    seed = request.options.seed
    held: list[Sample] = []
    if isinstance(request.holdout, Path):
        held, _ = _samples(readers, request.holdout, request)
        split = part_from_layer(readers, samples, held)
        if len(split.train) < MIN_TRAINING:
            raise VectorError(
                f"Only {len(split.train)} objects of {request.truth} lie apart from those of {request.holdout}",
                "hold out objects of another place",
            )
        train, lost, shares = [samples[i] for i in split.train], split.lost, split.shares_tiles
    else:
        found = split_by_space(readers, samples, request.holdout, seed)
        if found is None:
            train, lost, shares = samples, [], False
            notes.append(NO_HOLDOUT_NOTE)
        else:
            train, lost, shares = [samples[i] for i in found.train], found.lost, found.shares_tiles
            held = [samples[i] for i in found.held]
    left_out.update({samples[index].truth.object_id: "too near to those held out" for index in lost})
    if shares:
        notes.append(SHARED_TILES_NOTE)
    train, validation = _spare(readers, train, seed)
    return Parts(train, validation, held, left_out, notes)


def _samples(readers: Sequence[StoreReader], path: Path, request: Request) -> tuple[list[Sample], dict[str, str]]:
    located = locate(read_truth(path, request.class_field, request.class_value), readers)
    samples, left_out = make_samples(readers, located)
    return samples, {**located.left_out, **left_out}


def _spare(readers: Sequence[StoreReader], samples: list[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Spare some objects to tell when to stop, parted by space as well where there is room."""
    if len(samples) < _MIN_FOR_VALIDATION:
        return samples, []
    split = split_by_space(readers, samples, _VALIDATION_SHARE, seed + 1)
    if split is None:
        return samples, []
    # What falls between is of no use for stopping, but the test is apart from it all the same: it is learnt from.
    chosen = [samples[index] for index in split.held][:: max(1, len(split.held) // _MOST_VALIDATION)]
    return [samples[index] for index in sorted(split.train + split.lost)], chosen


def _compare(
    readers: Sequence[StoreReader], parts: Parts, base: Base, folder: Path, request: Request, events: Events
) -> Evaluation:
    """Measure the decoder before and after on what was held out, or else on what it learnt from."""
    measured = parts.held or parts.train
    objects: list[list[TruthObject]] = [[] for _ in readers]
    for sample in measured:
        objects[sample.place.store].append(sample.truth)
    decoders = {
        BEFORE: base.before.load(request.threads),
        TUNED: load_decoder(folder / "prepare.onnx", folder / "decoder.onnx", request.threads),
    }
    return evaluate(readers, objects, decoders, parse_kinds(_REPORT_PROMPTS), events.comparing)


def _signature(readers: Sequence[StoreReader], request: Request, base: Base) -> Mapping[str, Any]:
    """Return what must be the same for a training to be gone on with, the most telling first."""
    holdout = request.holdout
    return {
        "model": str(readers[0].metadata.model["encoder_sha256"]),
        "set of stores": [reader.metadata.raster.fingerprint for reader in readers],
        "layer": _digest(request.truth),
        "class": f"{request.class_field}={request.class_value}",
        "--holdout": _digest(holdout) if isinstance(holdout, Path) else float(holdout),
        "decoder to start from": _digest(base.before.decoder_path),
        "choice of what is trained": request.train_prompt_encoder,
        "seed": request.options.seed,
        "learning rate": request.options.learning_rate,
    }


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check its permissions") from error


def _facts(readers: Sequence[StoreReader], request: Request, parts: Parts, base: Base, trained: Trained) -> Facts:
    model = readers[0].metadata.model
    return Facts(
        model=str(model["name"]),
        encoder_sha256=str(model["encoder_sha256"]),
        licence=str(model["licence"]),
        base=base.before.name,
        stores=[str(reader.root) for reader in readers],
        rasters=[reader.metadata.raster.file_name for reader in readers],
        truth=request.truth,
        class_name=None if request.class_field is None else f"{request.class_field} = {request.class_value}",
        parts={"learnt from": len(parts.train), "to stop by": len(parts.validation), "held out": len(parts.held)},
        with_kept_prompts=sum(sample.prompts is not None for sample in parts.train),
        left_out=parts.left_out,
        notes=parts.notes,
        trained=trained,
        options=request.options,
    )
