"""Fine-tuning from polygons to a decoder: read, split, train, compare, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosam_es.errors import StoreError, VectorError
from geosam_es.inference.decoder import load_decoder
from geosam_es.store import StoreReader
from geosam_es.store.decoders import file_sha256
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE

from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.ground_truth import Truth, TruthObject, locate, read_truth
from ..evaluation.prompting import parse_kinds
from .base_decoder import TUNED_FILE, Base, load_base, save_weights
from .decoder_folder import BEFORE, TUNED, decoder_folder, describe_decoder
from .feature_cache import FeatureCache
from .model_card import Facts
from .spatial_split import MIN_TRAINING, split_by_space, split_from_layer
from .training import STATE_FILE, EpochReport, Trained, TuneOptions, train
from .training_samples import Sample, make_samples

__all__ = ["DataSplit", "Events", "Request", "Tuned", "finetune"]

_VALIDATION_SHARE = 0.15
_MIN_FOR_VALIDATION = 20
"""With fewer training objects, none are set aside for validation."""

_MOST_VALIDATION = 60
REPORT_PROMPTS = "point,box,clicks:5"

SHARED_TILES_NOTE = (
    "All tiles overlap, so held-out and training objects share tiles and are only separated by a distance: expect lower"
    " figures elsewhere."
)
NO_HOLDOUT_NOTE = (
    "No objects were held out: the figures were measured on the training objects and say nothing about others."
)


@dataclass(frozen=True)
class Request:
    """What to tune, and on what.

    Attributes
    ----------
    stores : sequence of Path
        All of one encoder.
    truth : Path
        Layer of reference polygons.
    out : Path
        Folder for the tuned decoder.
    class_field, class_value : str, optional
        Use only objects of this class.
    holdout : float or Path
        Share of the objects to hold out for the comparison, 0 for none, or a layer with other objects.
    base : str, optional
        Decoder to start from; see `find_named_decoder`.
    checkpoint : Path, optional
        SAM's weights.
    train_prompt_encoder : bool
    options : TuneOptions
    resume, overwrite : bool
        Continue or replace an earlier run in the folder.
    threads : int, optional
        CPU threads of the comparison.
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


@dataclass(frozen=True)
class DataSplit:
    """What each object is used for.

    Attributes
    ----------
    training, validation, held_out : list of Sample
    left_out : dict of str to str
        Objects that are not used, and why.
    notes : list of str
        Limits of the measured figures.
    """

    training: list[Sample]
    validation: list[Sample]
    held_out: list[Sample]
    left_out: dict[str, str]
    notes: list[str]


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Events:
    """Callbacks for progress.

    Attributes
    ----------
    split : callable
        Called before the training.
    epoch : callable
        Called after each epoch.
    comparing : callable
        Called with the number of objects compared and their total.
    """

    split: Callable[[DataSplit], None] = _ignore
    epoch: Callable[[EpochReport], None] = _ignore
    comparing: Callable[[int, int], None] = _ignore


@dataclass(frozen=True)
class Tuned:
    """A tuned decoder.

    Attributes
    ----------
    folder : Path
    facts : Facts
    summary : dict
        Figures of the report.
    """

    folder: Path
    facts: Facts
    summary: dict[str, Any]


def finetune(request: Request, events: Events | None = None) -> Tuned:
    """Tune a decoder and compare it with the one it started from.

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
        If the stores, the layers, the options or the folder cannot be used; nothing is written then. The checkpoint of
        an interrupted training stays.
    """
    events = events or Events()
    readers = [StoreReader(path) for path in request.stores]
    _check_same_encoder(readers)
    truth, holdout = _read_layers(request)
    split = split_objects(readers, truth, holdout, request.options.seed)
    folder = decoder_folder(request.out, request.resume, request.overwrite)
    base = load_base(readers[0], request.base, request.checkpoint, request.train_prompt_encoder)
    signature = _signature(readers, request, truth, holdout, base)
    with folder as output:
        if not request.resume:
            output.remove(STATE_FILE)
        events.split(split)
        trained = train(
            base.decoder,
            FeatureCache(readers),
            split.training,
            split.validation,
            request.options,
            request.out,
            signature,
            events.epoch,
        )
        facts = _facts(readers, request, split, base, trained)
        with output.staging() as staged:
            base.decoder.export(staged)
            save_weights(base.decoder, staged / TUNED_FILE)
            evaluation = _compare(readers, split, base, staged, request.threads, events)
            summary = describe_decoder(staged, request.out.resolve().name, facts, evaluation, readers)
            output.publish(staged, last=DECODER_INFO_FILE)
        output.remove(STATE_FILE)
    return Tuned(request.out, facts, summary)


def _check_same_encoder(readers: Sequence[StoreReader]) -> None:
    first = readers[0].metadata.model
    for reader in readers[1:]:
        if reader.metadata.model["encoder_sha256"] != first["encoder_sha256"]:
            raise StoreError(
                f"{reader.root} and {readers[0].root} were encoded with different models",
                "use stores that were encoded with the same model",
            )


def _read_layers(request: Request) -> tuple[Truth, Truth | float]:
    """Return the reference polygons, and those to hold out or their share."""
    truth = read_truth(request.truth, request.class_field, request.class_value)
    if isinstance(request.holdout, Path):
        return truth, read_truth(request.holdout, request.class_field, request.class_value)
    return truth, request.holdout


def split_objects(readers: Sequence[StoreReader], truth: Truth, holdout: Truth | float, seed: int) -> DataSplit:
    """Split objects into training, validation and held-out ones; see `spatial_split` for how.

    Raises
    ------
    VectorError
        If there are too few objects.
    """
    samples, left_out = _locate_samples(readers, truth)
    if len(samples) < MIN_TRAINING:
        raise VectorError(
            f"{truth.path} has {len(samples)} usable objects, and fine-tuning needs at least {MIN_TRAINING}",
            "draw more objects",
        )
    notes = []
    if isinstance(holdout, Truth):
        held_out, _ = _locate_samples(readers, holdout)
        split = split_from_layer(readers, samples, held_out)
        if len(split.train) < MIN_TRAINING:
            raise VectorError(
                f"Only {len(split.train)} objects of {truth.path} are away from those of {holdout.path}",
                "hold out objects from another place",
            )
    else:
        split = split_by_space(readers, samples, holdout, seed)
        held_out = [samples[index] for index in split.held]
        if not held_out:
            notes.append(NO_HOLDOUT_NOTE)
    if split.shares_tiles:
        notes.append(SHARED_TILES_NOTE)
    left_out.update({samples[index].truth.object_id: "too close to held-out objects" for index in split.lost})
    training, validation = _set_validation_aside(readers, [samples[index] for index in split.train], seed)
    return DataSplit(training, validation, held_out, left_out, notes)


def _locate_samples(readers: Sequence[StoreReader], truth: Truth) -> tuple[list[Sample], dict[str, str]]:
    located = locate(truth, readers)
    samples, left_out = make_samples(readers, located)
    return samples, {**located.left_out, **left_out}


def _set_validation_aside(
    readers: Sequence[StoreReader], samples: list[Sample], seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split off validation objects, by space too, where there are enough objects."""
    if len(samples) < _MIN_FOR_VALIDATION:
        return samples, []
    split = split_by_space(readers, samples, _VALIDATION_SHARE, seed + 1)
    validation = [samples[index] for index in split.held][:: max(1, len(split.held) // _MOST_VALIDATION)]
    # Objects between both parts may be trained on: validation only decides when to stop.
    return [samples[index] for index in sorted(split.train + split.lost)], validation


def _compare(
    readers: Sequence[StoreReader], split: DataSplit, base: Base, staged: Path, threads: int | None, events: Events
) -> Evaluation:
    """Measure the decoder before and after on the held-out objects, or without any on the training objects."""
    objects: list[list[TruthObject]] = [[] for _ in readers]
    for sample in split.held_out or split.training:
        objects[sample.place.store].append(sample.truth)
    decoders = {
        BEFORE: base.before.load(threads),
        TUNED: load_decoder(staged / PREPARE_FILE, staged / DECODER_FILE, threads),
    }
    return evaluate(readers, objects, decoders, parse_kinds(REPORT_PROMPTS), events.comparing)


def _signature(
    readers: Sequence[StoreReader], request: Request, truth: Truth, holdout: Truth | float, base: Base
) -> dict[str, Any]:
    """Return what must not change when a training is resumed."""
    return {
        "model": str(readers[0].metadata.model["encoder_sha256"]),
        "set of stores": [reader.metadata.raster.fingerprint for reader in readers],
        "layer": truth.sha256,
        "class": f"{request.class_field}={request.class_value}",
        "--holdout": holdout.sha256 if isinstance(holdout, Truth) else float(holdout),
        "decoder to start from": file_sha256(base.before.decoder_path),
        "--prompt-encoder": request.train_prompt_encoder,
        "seed": request.options.seed,
        "learning rate": request.options.learning_rate,
    }


def _facts(readers: Sequence[StoreReader], request: Request, split: DataSplit, base: Base, trained: Trained) -> Facts:
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
        training=len(split.training),
        validation=len(split.validation),
        held_out=len(split.held_out),
        with_kept_prompts=sum(sample.prompts is not None for sample in split.training),
        left_out=split.left_out,
        notes=split.notes,
        trained=trained,
        options=request.options,
    )
