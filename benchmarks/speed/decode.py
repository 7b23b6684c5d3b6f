"""The decoder: a click, a hover, a click with a mask prompt, and many prompts at once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.export import DECODER_OUTPUTS, PLACES_INPUT
from encoder_tools.models.libraries import torch
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.inference.decoder import (
    PREVIEW_PLACES,
    Context,
    DecodedMasks,
    SplitDecoder,
    decode_many,
    decode_preview,
)

from .measure import (
    LEAST_IOU,
    Bench,
    Call,
    mask_agreement,
    mask_iou,
    mask_iou_but_one,
    matrix_gflops,
    take_turns,
)
from .model import Agreement, Goal, Item, Row, Table, Timing
from .onnx_cost import graph_cost
from .previews import TrainedPreviews, drawn_places, trained_previews
from .sam import OfficialDecoder, SamFiles, decoder_feeds, lively_sam, sam_files, smooth_features, some_clicks

__all__ = ["run"]

_OFFICIAL = "segment-anything's own ONNX export (1024 px mask) on onnxruntime"
_UNCHANGED = "official, onnxruntime's own options"
_MANY = 100
_ROUGHNESS = 0.03
"""Makes the pixels of a place differ a little, as in trained models."""

_SHOWN_OPERATORS = 8
_ALL_PLACES = 64 * 64


class _Case(NamedTuple):
    """Inputs that the measurements share."""

    bench: Bench
    files: SamFiles
    sam: Any
    features: NDArray[np.float32]
    decoder: SplitDecoder
    context: Context
    clicks: Sequence[Prompts]
    trained: TrainedPreviews

    def click(self, run: int) -> Prompts:
        """Return the prompt of a run."""
        return self.clicks[run % len(self.clicks)]


def run(bench: Bench) -> Iterator[Item]:
    """Measure the decoder."""
    sam = lively_sam(_ROUGHNESS)
    files = sam_files(bench.work / "decode", sam)
    decoder = SplitDecoder(files.prepare, files.decoder, bench.threads)
    features = smooth_features()
    context = decoder.prepare({"image_embeddings": features})
    clicks = some_clicks(bench.runs(32, 4))
    case = _Case(bench, files, sam, features, decoder, context, clicks, trained_previews(bench))
    yield from _click(case)
    yield _mask_prompt(case)
    yield from _batch(case)
    yield _prompt_sizes(case)
    yield _profile(case)


def _click(case: _Case) -> Iterator[Item]:
    bench, decoder, context = case.bench, case.decoder, case.context
    official = OfficialDecoder(case.files.official, case.features, bench.threads)
    calls: dict[str, Call] = {
        "official": lambda run: official.decode(case.click(run)),
        "click": lambda run: decoder.decode(context, case.click(run)),
        "preview": lambda run: decode_preview(decoder, context, case.click(run)),
        "prepare": lambda _: decoder.prepare({"image_embeddings": case.features}),
    }
    times = take_turns(calls, bench.runs(60))
    reference = times["official"]
    pairs = _pairs_with_official(case)
    ious = [mask_iou_but_one(*pair) for pair in pairs]
    yield Row(
        "click",
        "click on an active SAM tile: four masks of 256 x 256 and their scores",
        _OFFICIAL,
        times["click"].median_ms / reference.median_ms,
        goal=Goal(0.42),
        ours=times["click"],
        reference=reference,
        agreement=Agreement(
            f"smallest IoU of {len(ious)} masks, without one pixel of each for rounding", min(ious), LEAST_IOU
        ),
        note=f"with every pixel {min(mask_iou(*pair) for pair in pairs):.5f}",
    )
    ious = _ious_of_preview(case)
    yield Row(
        "preview",
        f"hover preview: the first mask, at full resolution in the {PREVIEW_PLACES} of 4096 places nearest its outline",
        _OFFICIAL,
        times["preview"].median_ms / reference.median_ms,
        goal=Goal(0.30),
        ours=times["preview"],
        reference=reference,
        agreement=case.trained.agreement,
        note=f"outlines of random weights cross many more places: mean IoU of {len(ious)} such previews with the mask"
        f" of the click {np.mean(ious):.4f}, smallest {min(ious):.4f}",
    )
    # Separately, because its spinning threads would occupy a core during the next measurement.
    unchanged = OfficialDecoder(case.files.official, case.features, bench.threads, own_options=True)
    alone = take_turns({_UNCHANGED: lambda run: unchanged.decode(case.click(run))}, bench.runs(60))
    yield _work(case, {"official": reference, **alone, **times})


def _pairs_with_official(case: _Case) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return pairs with the official masks: of all four, and of the one that the official graph chooses."""
    four = OfficialDecoder(case.files.official_four, case.features, case.bench.threads)
    one = OfficialDecoder(case.files.official, case.features, case.bench.threads)
    pairs = []
    for prompts in case.clicks:
        ours = case.decoder.decode(case.context, prompts)
        pairs += list(zip(ours.low_res_masks, four.decode(prompts)["low_res_masks"][0]))
        best = ours.low_res_masks[ours.ranking(ambiguous=True)[0]]
        pairs.append((best, one.decode(prompts)["low_res_masks"][0, 0]))
    return pairs


def _ious_of_preview(case: _Case) -> list[float]:
    ious = []
    for prompts in case.clicks:
        whole = case.decoder.decode(case.context, prompts)
        shown = decode_preview(case.decoder, case.context, prompts)
        ious.append(mask_iou(shown.low_res_masks[0], whole.low_res_masks[whole.ranking(ambiguous=True)[0]]))
    return ious


def _work(case: _Case, times: Mapping[str, Timing]) -> Table:
    """Return a table of times, operations, and the speed of matrix products."""
    peak = matrix_gflops(case.bench.runs(12, 3))
    shapes = {name: array.shape for name, array in {**case.context, **decoder_feeds(case.click(0))}.items()}
    features = {"image_embeddings": case.features.shape}
    size = {"orig_im_size": np.array([1024, 1024], np.float32)}
    without_mask = {"has_mask_input": np.zeros(1, np.float32)}
    costs = {
        "official": graph_cost(case.files.official, {**shapes, **features}, values=size),
        "click": graph_cost(case.files.decoder, shapes, DECODER_OUTPUTS, without_mask),
        "preview": graph_cost(
            case.files.decoder, shapes, values={**without_mask, **_preview_values(case.files.decoder)}
        ),
        "prepare": graph_cost(case.files.prepare, features),
    }
    rows: list[tuple[Any, ...]] = []
    for name, timing in times.items():
        cost = costs[name.split(",")[0]]
        floor_ms = cost.flops / peak / 1e6
        share = floor_ms / timing.median_ms
        rows.append((name, cost.flops / 1e9, cost.bytes / 2**20, floor_ms, timing.median_ms, timing.p95_ms, share))
    return Table(
        "decoder_work",
        "Operations and time of the decoder",
        ("what", "GFLOP", "results MiB", "floor ms", "median ms", "p95 ms", "of the matrix products' speed"),
        rows,
        f"Matrix products run at {peak:.0f} GFLOP/s here (float32, {case.bench.threads} threads, measured in the same"
        " run); the floor is the time that the operations would take at that speed.",
    )


def _preview_values(path: Path) -> dict[str, NDArray[Any]]:
    """Return the values that the shapes of a preview depend on."""
    import onnx

    nodes = [node for top in onnx.load(path).graph.node for item in top.attribute for node in item.g.node]
    chosen = next(node.output[1] for node in nodes if node.op_type == "TopK")
    return {PLACES_INPUT: np.array(PREVIEW_PLACES), chosen: np.zeros(PREVIEW_PLACES, np.int64)}


def _mask_prompt(case: _Case) -> Row:
    from segment_anything import SamPredictor

    predictor = SamPredictor(case.sam.network)
    predictor.features = torch.from_numpy(case.features)
    predictor.original_size = predictor.input_size = (1024, 1024)
    predictor.is_image_set = True
    earlier = [case.decoder.decode(case.context, prompts).low_res_masks[1] for prompts in case.clicks]

    def theirs(run: int) -> NDArray[np.float32]:
        point = case.click(run).points[0]
        _, _, masks = predictor.predict(
            np.array([[point.x, point.y]]), np.array([1]), mask_input=earlier[run % len(earlier)][None]
        )
        return np.asarray(masks)

    def ours(run: int) -> NDArray[np.float32]:
        return case.decoder.decode(case.context, case.click(run), earlier[run % len(earlier)]).low_res_masks

    times = take_turns({"theirs": theirs, "ours": ours}, case.bench.runs(40))
    ious = [
        mask_iou(*pair)
        for index in range(len(case.clicks))
        for pair in zip(ours(index)[1:], theirs(index), strict=True)
    ]
    return Row(
        "click_with_mask",
        "click that refines an earlier mask",
        "SamPredictor.predict on torch",
        times["ours"].median_ms / times["theirs"].median_ms,
        goal=Goal(0.45),
        ours=times["ours"],
        reference=times["theirs"],
        agreement=mask_agreement(ious),
    )


def _batch(case: _Case) -> Iterator[Row]:
    count = case.bench.runs(_MANY, 8)
    prompts = some_clicks(count, seed=1)
    single = SplitDecoder(case.files.prepare, case.files.decoder, 1)

    def as_trained() -> list[DecodedMasks]:
        """Decode like `decode_many` with ``first_only``, in as many places as most trained masks need."""
        with ThreadPoolExecutor(case.bench.threads) as pool:
            return list(pool.map(partial(decode_preview, single, case.context), prompts))

    calls: dict[str, Callable[[], list[DecodedMasks]]] = {
        "one by one": lambda: [case.decoder.decode(case.context, item) for item in prompts],
        "as trained": as_trained,
        "first": lambda: decode_many(case.decoder, case.context, prompts, first_only=True),
        "all": lambda: decode_many(case.decoder, case.context, prompts),
    }
    times = take_turns({name: partial(_ignore, call) for name, call in calls.items()}, case.bench.runs(5, 1), warm_up=1)

    def row(key: str, what: str, name: str, agreement: Agreement, **more: Any) -> Row:
        against = "one by one, as clicks: all four masks of each"
        ratio = times["one by one"].median_ms / times[name].median_ms
        together = f"{count} prompts on one tile as a batch: {what}"
        more |= {"ours": times[name], "reference": times["one by one"], "agreement": agreement}
        return Row(key, together, against, ratio, unit="times as fast", **more)

    wanted, first, everything = calls["one by one"](), calls["first"](), calls["all"]()
    shown = [answer.low_res_masks[answer.ranking(ambiguous=True)[0]] for answer in wanted]
    places = np.mean([len(drawn_places(mask, _ALL_PLACES)) for mask in shown])
    yield row(
        "batch",
        f"the first mask of each, at full resolution in {PREVIEW_PLACES} places, enough for most trained masks",
        "as trained",
        case.trained.agreement,
        goal=Goal(1.5, is_least=True),
        note="`geosam-es segment` and the Processing algorithm work this way unless other candidates are requested, and"
        f" compute every place that the outline crosses: {places:.0f} on average with random weights, as in the next"
        f" row; at most {case.trained.most_places} for the masks of mini",
    )
    ious = [mask_iou(answer.low_res_masks[0], mask) for answer, mask in zip(first, shown, strict=True)]
    what = "the first mask of each, with random weights, at full resolution along the whole outline"
    yield row("batch_first", what, "first", mask_agreement(ious))
    pairs = [
        mask_iou(*pair)
        for one, many in zip(wanted, everything, strict=True)
        for pair in zip(one.low_res_masks, many.low_res_masks)
    ]
    yield row("batch_all", "all four masks of each", "all", mask_agreement(pairs))


def _ignore(call: Callable[[], Any], _: int) -> None:
    call()


def _prompt_sizes(case: _Case) -> Table:
    """Time a box, and several points."""
    random = np.random.default_rng(3)
    kinds = {"click": case.click(0), "box": Prompts(box=Bounds(200, 250, 700, 800))}
    for count in (3, 8, 20):
        places = random.uniform(100, 900, (count, 2))
        kinds[f"{count} points"] = Prompts(
            tuple(Point(float(x), float(y), bool(i % 2 == 0)) for i, (x, y) in enumerate(places))
        )
    official = OfficialDecoder(case.files.official, case.features, case.bench.threads)

    def ours(prompts: Prompts, _: int) -> None:
        case.decoder.decode(case.context, prompts)

    def theirs(prompts: Prompts, _: int) -> None:
        official.decode(prompts)

    rows = []
    for name, prompts in kinds.items():
        times = take_turns({"ours": partial(ours, prompts), "official": partial(theirs, prompts)}, case.bench.runs(20))
        here, there = times["ours"].median_ms, times["official"].median_ms
        rows.append((name, here, there, here / there))
    return Table("prompts", "Other prompts", ("prompts", "ours ms", "official ms", "ratio"), rows)


def _profile(case: _Case) -> Table:
    """Return the time of a click by operator, from onnxruntime's profile."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.bench.threads
    options.enable_profiling = True
    options.profile_file_prefix = str(case.bench.work / "profile")
    session = onnxruntime.InferenceSession(str(case.files.decoder), options, providers=["CPUExecutionProvider"])
    wanted = onnxruntime.RunOptions()
    wanted.only_execute_path_to_fetches = True
    names = {item.name for item in session.get_inputs()}
    runs = case.bench.runs(30)
    for index in range(runs):
        feeds = {**case.context, **decoder_feeds(case.click(index))}
        feeds = {name: value for name, value in feeds.items() if name in names}
        session.run(DECODER_OUTPUTS, feeds, wanted)
    return operator_table(Path(session.end_profiling()), runs)


def operator_table(path: Path, runs: int) -> Table:
    times: dict[str, float] = defaultdict(float)
    for event in json.loads(path.read_text(encoding="utf-8")):
        # The time of a control-flow node is that of its body, whose nodes have their own events.
        operator = event.get("args", {}).get("op_name")
        if event.get("cat") == "Node" and operator and operator != "If" and event["name"].endswith("_kernel_time"):
            times[operator] += event["dur"] / 1e3 / runs
    total = sum(times.values())
    ranked = sorted(times.items(), key=lambda item: -item[1])
    rows = [(name, time_ms, time_ms / total) for name, time_ms in ranked[:_SHOWN_OPERATORS]]
    rest = sum(time_ms for _, time_ms in ranked[_SHOWN_OPERATORS:])
    rows.append(("all others", rest, rest / total))
    return Table(
        "decoder_profile",
        "Where a click spends its time",
        ("operator", "ms", "share"),
        rows,
        "From onnxruntime's own profile, which slows it down a little.",
    )
