"""Fine-tuning from polygons to a decoder or a model: read, split, train, choose, compare, write.

Depths, from the least that is trained to the most: ``decoder``; ``adapter``, a small network over the stored features
together with the decoder; ``all``, the whole network from the pixels of the rasters.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from geosam_es.errors import ModelError, OutputError, RasterError, StoreError, VectorError
from geosam_es.inference.decoder import load_decoder
from geosam_es.inference.encoder import read_model_info
from geosam_es.store import StoreReader
from geosam_es.store.decoders import file_sha256, read_info
from geosam_es.store.files import temporary_name
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE
from geosam_es.store.raster_name import typed

from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.figures import figure_class
from ..evaluation.ground_truth import Truth, TruthObject, locate, read_truth
from ..evaluation.pictures import find_raster
from ..evaluation.prompting import parse_kinds
from .adapter import AdaptedDecoder
from .base_decoder import TUNED_FILE, Base, load_base, model_folder, save_weights
from .checkpoint import STATE_FILE, Checkpoint
from .decoder_folder import BEFORE, TUNED, decoder_folder, describe_decoder
from .encode_again import encode_again, is_raster_of, put_in_place_of, raster_of
from .feature_cache import FeatureCache
from .learners import StoredLearner
from .mini_decoder import FEATURE_CHANNELS as MINI_CHANNELS
from .mini_model import LEAST_PIXELS, PixelLearner, Tiles, is_large, load_encoder
from .model_card import Facts
from .spatial_split import MIN_TRAINING, divide, split_by_space, split_from_layer
from .training import (
    TRIAL_SHARE,
    Choice,
    Fit,
    TuneOptions,
    choose,
    cross_fit,
    put_weights,
)
from .training_samples import Sample, make_samples
from .tunable_decoder import TunableDecoder

__all__ = ["AUTO", "DEPTHS", "DataSplit", "Events", "Request", "Tuned", "finetune"]

AUTO = "auto"
DEPTHS = ("decoder", "adapter", "all")
_TIME = {"decoder": 1.0, "adapter": 1.0, "all": 4.0}
"""Relative time for each depth that is tried."""

_MOST_COMPARED = 500
"""More objects would take hours, and the intervals are narrow with so many."""

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
        Folder for the result.
    depth : str
        One of `DEPTHS`, or `AUTO` to try several and to take what serves best.
    rasters : sequence of Path
        Rasters of the stores, or folders of them; see `find_raster` for others.
    keeps_stores : bool
        Do not encode the stores again where the encoder was trained.
    class_field, class_value : str, optional
        Use only objects of this class.
    holdout : float or Path
        Share of the objects to hold out for the comparison, 0 for none, or a layer with other objects.
    base : str, optional
        Decoder to start from; see `find_named_decoder`.
    checkpoint : Path, optional
        Weights of the model.
    train_prompt_encoder : bool
    options : TuneOptions
    resume, overwrite : bool
        Continue or replace an earlier run in the folder.
    """

    stores: Sequence[Path]
    truth: Path
    out: Path
    depth: str = AUTO
    rasters: Sequence[Path] = ()
    keeps_stores: bool = False
    class_field: str | None = None
    class_value: str | None = None
    holdout: float | Path = 0.2
    base: str | None = None
    checkpoint: Path | None = None
    train_prompt_encoder: bool = False
    options: TuneOptions = field(default_factory=TuneOptions)
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class DataSplit:
    """What each object is used for.

    Attributes
    ----------
    parts : list of list of Sample
        The training objects, divided by location.
    held_out : list of Sample
    left_out : dict of str to str
        Objects that are not used, and why.
    notes : list of str
        Limits of the measured figures.
    """

    parts: list[list[Sample]]
    held_out: list[Sample]
    left_out: dict[str, str]
    notes: list[str]

    @property
    def training(self) -> list[Sample]:
        """All objects that are learned from."""
        return [sample for part in self.parts for sample in part]

    @property
    def compared(self) -> list[Sample]:
        """The objects to measure: those held out, or without any those learned from; or a sample of that many."""
        found = self.held_out or self.training
        return found if len(found) <= _MOST_COMPARED else random.Random(0).sample(found, _MOST_COMPARED)


@dataclass(frozen=True)
class Events:
    """Callbacks for progress.

    Attributes
    ----------
    split : callable
        Called before the training.
    training : callable
        Called with the percentage done and 100.
    tried : callable
        Called with each depth and its `Fit`.
    comparing : callable
        Called with the number of objects compared and their total.
    encoding : callable
        Called with the number of tiles encoded again and their total.
    moved : callable
        Called with what became of the decoders of a store that was encoded again.
    """

    split: Callable[[DataSplit], None]
    training: Callable[[int, int], None]
    tried: Callable[[str, Fit], None]
    comparing: Callable[[int, int], None]
    encoding: Callable[[int, int], None]
    moved: Callable[[str], None]


@dataclass(frozen=True)
class Tuned:
    """A tuned decoder.

    Attributes
    ----------
    facts : Facts
    summary : dict
        Figures of the report.
    """

    facts: Facts
    summary: dict[str, Any]


def finetune(request: Request, events: Events) -> Tuned:
    """Tune a decoder or a model and compare it with the one it started from.

    Parameters
    ----------
    request : Request
    events : Events

    Returns
    -------
    Tuned

    Raises
    ------
    GeoSamError
        If the stores, the layers, the options or the folder cannot be used; nothing is written then. The checkpoint of
        an interrupted training stays. Also if a store cannot be replaced; the result is complete then.
    """
    figure_class()
    readers = [StoreReader(path) for path in request.stores]
    _check_same_encoder(readers)
    rasters = _find_rasters(readers, request.rasters)
    truth, holdout = _read_layers(request)
    split = split_objects(readers, truth, holdout, request.options.seed)
    folder = decoder_folder(request.out, request.resume, request.overwrite)
    base = load_base(readers[0], request.base, request.checkpoint, request.train_prompt_encoder)
    if split.held_out:
        split.notes.extend(_learned_before(base, request.checkpoint))
    learners = _learners(request, readers, rasters, base, split)
    signature = _signature(readers, request, truth, holdout, split, base)
    with folder as output, ExitStack() as stack:
        if not request.resume:
            output.remove(STATE_FILE)
        events.split(split)
        choice = _train(learners, split, request, signature, events)
        learner = learners[choice.name]
        put_weights(learner.module, choice.fit, choice.share)
        facts = _facts(readers, request, split, base, choice)
        with output.staging() as staged:
            name = request.out.resolve().name
            fresh: list[Path] = []
            if isinstance(learner, PixelLearner) and choice.share:
                info = read_model_info(model_folder(readers[0], request.checkpoint))
                facts = replace(facts, encoder_sha256=learner.write(staged, info, name).encoder_sha256)
                fresh = _encode_again(readers, rasters, staged, request, stack, events)
            else:
                learner.decoder.export(staged)
            save_weights(learner.decoder, staged / TUNED_FILE)
            evaluation = _compare(readers, [StoreReader(path) for path in fresh], split, base, staged, request, events)
            summary = describe_decoder(staged, name, facts, evaluation, readers, rasters)
            output.publish(staged, last=DECODER_INFO_FILE)
        output.remove(STATE_FILE)
        if fresh and not request.keeps_stores:
            _replace_stores(readers, fresh, request.out, events)
    return Tuned(facts, summary)


def _learned_before(base: Base, checkpoint: Path | None) -> list[str]:
    """Return a note if the training starts from what may have learned the held-out objects."""
    what, count = f"decoder that it started from, {base.before.name},", base.before.objects
    remedy = "start with --decoder original"
    if not count and checkpoint is not None and (checkpoint / DECODER_INFO_FILE).is_file():
        what, count = f"model in {checkpoint}", read_info(checkpoint).objects
        remedy = "hold out new objects with --holdout LAYER"
    text = (
        f"The {what} had learned from {count} objects, perhaps from some of those held out now. The figures before and"
        f" after may be too high, and the gain too small. For a clean comparison, {remedy}."
    )
    return [text] if count else []


def _replace_stores(readers: Sequence[StoreReader], fresh: Sequence[Path], model: Path, events: Events) -> None:
    """Put new stores in the place of the old ones; one that cannot be replaced does not stop the others."""

    def failure(store: Path, new: Path) -> OutputError | None:
        try:
            if note := put_in_place_of(store, new):
                events.moved(note)
        except OutputError as error:
            return error
        return None

    failed = {reader.root: error for reader, path in zip(readers, fresh) if (error := failure(reader.root, path))}
    if failed:
        first = next(iter(failed.values()))
        commands = "; ".join(f"geosam-es decoder set {typed(str(store))} {typed(str(model))}" for store in failed)
        raise OutputError(first.problem, f"{first.remedy}, then run: {commands}") from first


def _find_rasters(readers: Sequence[StoreReader], given: Sequence[Path]) -> list[Path | None]:
    """Return the raster of each store: a given one with its name or pixels, or else what `find_raster` finds."""
    if len(readers) == 1 and len(given) == 1:
        return [find_raster(readers[0], given[0])]
    missing = next((path for path in given if not path.exists()), None)
    if missing is not None:
        raise RasterError(f"{missing} does not exist", "check --raster, or omit it")
    names = {reader.metadata.raster.file_name for reader in readers}
    renamed = [path for path in given if path.is_file() and path.name not in names]
    shown = {path: [reader for reader in readers if is_raster_of(reader, path)] for path in renamed}
    foreign = next((path for path in renamed if not shown[path]), None)
    if foreign is not None:
        raise RasterError(f"{foreign} is the image of none of the stores", "give the right file, or omit --raster")
    found = []
    for reader in readers:
        name = reader.metadata.raster.file_name
        files = (path / name if path.is_dir() else path for path in given)
        named = [path for path in files if path.name == name and path.is_file()]
        own = next((path for path in named if len(named) == 1 or is_raster_of(reader, path)), None)
        found.append(find_raster(reader, own or next((path for path in renamed if reader in shown[path]), None)))
    return found


def _learners(
    request: Request,
    readers: Sequence[StoreReader],
    rasters: Sequence[Path | None],
    base: Base,
    split: DataSplit,
) -> dict[str, StoredLearner | PixelLearner]:
    """Return what is trained, by depth; a note says why the encoder is not."""
    cache = FeatureCache(readers)

    def decoder() -> TunableDecoder:
        return copy.deepcopy(base.decoder)

    def adapted() -> TunableDecoder:
        if isinstance(base.decoder, AdaptedDecoder):
            return decoder()
        return AdaptedDecoder(decoder(), base.channels)

    def everything() -> PixelLearner:
        if base.channels != MINI_CHANNELS:
            raise ModelError(
                f"{readers[0].metadata.model['name']} cannot be trained from pixels, only mini and models made from it",
                "use --depth adapter",
            )
        encoder = load_encoder(model_folder(readers[0], request.checkpoint))
        if not _have_large(_joined(split.parts)):
            raise VectorError(
                f"{request.truth} has too few objects of {LEAST_PIXELS} pixels or more to train the encoder",
                "add enlarged tiles with geosam-es encode --resume --finest -1, or use --depth adapter",
            )
        images = [raster_of(reader, path) for reader, path in zip(readers, rasters)]
        return PixelLearner(encoder, decoder(), Tiles(readers, images))

    if request.depth == "all":
        return {"all": everything()}
    if request.depth == "decoder":
        return {"decoder": StoredLearner(decoder(), cache)}
    learners: dict[str, StoredLearner | PixelLearner] = {"adapter": StoredLearner(adapted(), cache)}
    if request.depth == AUTO:
        with suppress(ModelError):
            try:
                learners["all"] = everything()
            except (RasterError, VectorError) as error:
                split.notes.append(f"The encoder was not trained. {error.problem}: {error.remedy}.")
    return learners


def _have_large(parts: Sequence[Sequence[Sample]]) -> bool:
    return all(any(map(is_large, part)) for part in parts)


def _joined(parts: list[list[Sample]]) -> list[list[Sample]]:
    """Join the quarters of the training objects into halves."""
    return parts if len(parts) == 2 else [[*first, *second] for first, second in zip(parts[::2], parts[1::2])]


def _train(
    learners: Mapping[str, StoredLearner | PixelLearner],
    split: DataSplit,
    request: Request,
    signature: Mapping[str, Any],
    events: Events,
) -> Choice:
    """Try each depth for its part of the time, and train the one that serves best on all objects."""
    checkpoint = Checkpoint(request.out, signature)
    total = sum(_TIME[depth] for depth in learners)
    fits: dict[str, Fit] = {}

    def told(begun: float, share: float) -> Callable[[float], None]:
        return lambda progress: events.training(int(100 * (begun + share * progress)), 100)

    for depth, learner in learners.items():
        begun, share = sum(_TIME[known] for known in fits) / total, _TIME[depth] / total
        minutes = request.options.minutes and request.options.minutes * share
        report = told(begun * TRIAL_SHARE, share * TRIAL_SHARE)
        options = replace(request.options, minutes=minutes)
        # An encoder learns nothing from a part with small objects alone.
        is_fine = not isinstance(learner, PixelLearner) or _have_large(split.parts)
        parts = split.parts if is_fine else _joined(split.parts)
        fits[depth] = cross_fit(learner, parts, options, checkpoint, depth, report)
        events.tried(depth, fits[depth])
    choice = choose(fits)
    if choice.share:
        name, report = choice.name, told(TRIAL_SHARE, 1 - TRIAL_SHARE)
        fits[name] = cross_fit(learners[name], split.parts, request.options, checkpoint, name, report, choice.fit)
    events.training(100, 100)
    return choice


def _encode_again(
    readers: Sequence[StoreReader],
    rasters: Sequence[Path | None],
    model: Path,
    request: Request,
    stack: ExitStack,
    events: Events,
) -> list[Path]:
    """Encode all stores with a new model, each beside the old one; what is left of them is removed with the stack."""
    fresh = []
    for reader, path in zip(readers, rasters):
        fresh.append(temporary_name(reader.root.resolve().parent))
        stack.callback(shutil.rmtree, fresh[-1], ignore_errors=True)
        encode_again(reader, raster_of(reader, path), model, fresh[-1], events.encoding)
    return fresh


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
        If there are too few objects, or none to hold out in their layer.
    """
    samples, left_out = _locate_samples(readers, truth)
    if len(samples) < MIN_TRAINING:
        raise VectorError(
            f"{truth.path} has {len(samples)} usable objects, and fine-tuning needs at least {MIN_TRAINING}",
            "draw more objects",
        )
    notes = []
    if isinstance(holdout, Truth):
        held_out, reasons = _locate_samples(readers, holdout)
        if not held_out:
            raise VectorError(
                f"{holdout.path} has no usable object to hold out ({next(iter(reasons.values()))})",
                "choose another layer, or a share of the objects such as --holdout 0.2",
            )
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
    training = [samples[index] for index in split.train]
    count = len(held_out or training)
    if count > _MOST_COMPARED:
        notes.append(f"The figures are of {_MOST_COMPARED} of the {count} objects, drawn evenly at random.")
    return DataSplit(divide(readers, training, seed), held_out, left_out, notes)


def _locate_samples(readers: Sequence[StoreReader], truth: Truth) -> tuple[list[Sample], dict[str, str]]:
    located = locate(truth, readers)
    samples, left_out = make_samples(readers, located)
    return samples, {**located.left_out, **left_out}


def _compare(
    readers: Sequence[StoreReader],
    fresh: Sequence[StoreReader],
    split: DataSplit,
    base: Base,
    staged: Path,
    request: Request,
    events: Events,
) -> Evaluation:
    """Measure before and after; see `DataSplit.compared` for the objects.

    Stores that were encoded again serve the decoder after.
    """
    objects: list[list[TruthObject]] = [[] for _ in readers]
    for sample in split.compared:
        objects[sample.place.store].append(sample.truth)
    kinds = parse_kinds(REPORT_PROMPTS)
    before = {BEFORE: base.before.load()}
    after = {TUNED: load_decoder(staged / PREPARE_FILE, staged / DECODER_FILE)}
    if not fresh:
        return evaluate(readers, objects, {**before, **after}, kinds, events.comparing)
    first = evaluate(readers, objects, before, kinds, lambda done, total: events.comparing(done, 2 * total))
    second = evaluate(fresh, objects, after, kinds, lambda done, total: events.comparing(total + done, 2 * total))
    left_out = {**first.left_out, **second.left_out}
    outcomes = [o for o in (*first.outcomes, *second.outcomes) if o.truth.object_id not in left_out]
    return Evaluation(outcomes, left_out)


def _signature(
    readers: Sequence[StoreReader],
    request: Request,
    truth: Truth,
    holdout: Truth | float,
    split: DataSplit,
    base: Base,
) -> dict[str, Any]:
    """Return what must not change when a training is resumed."""
    parts = [[(sample.truth.object_id, sample.place) for sample in part] for part in (*split.parts, split.held_out)]
    return {
        "model": str(readers[0].metadata.model["encoder_sha256"]),
        "set of stores": [reader.metadata.raster.fingerprint for reader in readers],
        "layer": truth.sha256,
        "class": f"{request.class_field}={request.class_value}",
        "--holdout": holdout.sha256 if isinstance(holdout, Truth) else float(holdout),
        "decoder to start from": file_sha256(base.before.decoder_path),
        "--prompt-encoder": request.train_prompt_encoder,
        "--depth": request.depth,
        "seed": request.options.seed,
        "learning rate": request.options.learning_rate,
        # The last one, as it depends on the others.
        "set of encoded tiles": sha256(json.dumps(parts).encode()).hexdigest(),
    }


def _facts(readers: Sequence[StoreReader], request: Request, split: DataSplit, base: Base, choice: Choice) -> Facts:
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
        held_out=len(split.held_out),
        with_kept_prompts=sum(sample.prompts is not None for sample in split.training),
        left_out=split.left_out,
        notes=split.notes,
        choice=choice,
        options=request.options,
    )
