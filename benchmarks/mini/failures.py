"""Pictures of the worst answers of each held-out set: ``python -m benchmarks.mini.failures --data DIR --page PAGE``.

The terms of the imagery allow small pictures with credit. Nothing else of the imagery is kept.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry
from tqdm import tqdm

from encoder_tools.evaluation.metrics import intersection_over_union
from encoder_tools.mini.labelled_tiles import Tile, tiles
from encoder_tools.training.simulated_user import BOX_HIGH
from geosam_es.core.topology import polygon_parts
from geosam_es.errors import GeoSamError, OutputError
from geosam_es.inference.encoder import TILE_SIZE, read_model_info

from ..markdown import replace_sections
from .exported_model import OnnxMini, Prompt, drawn_polygons
from .held_out import held_out, measurement_parser
from .measuring import User, target_of
from .process_pool import map_with_model

__all__ = ["Failure", "draw_sheet", "find_answers", "worst"]

PICTURES = Path("images") / "mini"
COLUMNS = 6
CELL = 210
PICTURE = CELL - 4
CAPTION = 16
MARGIN = 0.35
FAILED_IOU = 0.5
MAX_BYTES = 200_000
TRUTH, ANSWER, PROMPT = (255, 225, 60), (255, 40, 160), (60, 230, 255)

_DUBAI = "Imagery and labels: Humans in the Loop with the Mohammed Bin Rashid Space Centre, CC0 1.0, also as CC BY 4.0."
CREDITS = {
    "buildings/val_kampala": "Imagery: OpenAerialMap contributors, by way of HOT's fAIr, CC BY 4.0. "
    "Outlines: (c) OpenStreetMap contributors, ODbL 1.0.",
    "fields/val": "Imagery: USDA National Agriculture Imagery Program, public domain. "
    "Outlines: agoro-field-boundary-detector, MIT.",
    "landcover/val_dubai water": _DUBAI,
    "landcover/val_dubai vegetation": _DUBAI,
    "coast/val": "Imagery and outlines: U.S. Geological Survey, UNetSegmentation_RGB_DEM, MIT.",
}


@dataclass(frozen=True)
class Failure:
    """An answer, with what is needed to draw it.

    Attributes
    ----------
    dataset, begin : str
        The set, and ``click`` or ``box``.
    iou, score : float
        True and predicted.
    image : uint8 (S, S, 3)
        The surroundings, in the size in which they are drawn.
    window : (int, int, int)
        x, y and side of the surroundings in the tile.
    truth, answer : list of geometry
        In pixels of the tile.
    prompts : list of Prompt
    """

    dataset: str
    begin: str
    iou: float
    score: float
    image: NDArray[np.uint8]
    window: tuple[int, int, int]
    truth: BaseGeometry
    answer: list[shapely.Polygon]
    prompts: list[Prompt]


def find_answers(model: OnnxMini, tile: Tile) -> list[Failure]:
    """Return the mask shown first for a click and for the box of every object of a tile."""
    model.set_image(tile.image)
    found = []
    for polygon in tile.polygons:
        target = target_of(polygon)
        if target is None:
            continue
        user = User(model, tile, target)
        for begin, prompts in (("click", [target.click]), ("box", target.box)):
            mask, score, logits = user.draw(prompts)
            answer = drawn_polygons(logits, prompts, tile.width, tile.height)
            iou = intersection_over_union(target.truth, mask)
            window, image = _surroundings(tile, polygon)
            found.append(Failure(tile.dataset, begin, iou, score, image, window, polygon, answer, list(prompts)))
    return found


def _surroundings(tile: Tile, polygon: BaseGeometry) -> tuple[tuple[int, int, int], NDArray[np.uint8]]:
    """Return a square around an object of its tile, resized for drawing."""
    x0, y0, x1, y1 = polygon.bounds
    side = int(min(TILE_SIZE, max(64, (1 + 2 * MARGIN) * max(x1 - x0, y1 - y0))))
    left = int(np.clip((x0 + x1 - side) / 2, 0, max(0, tile.width - side)))
    top = int(np.clip((y0 + y1 - side) / 2, 0, max(0, tile.height - side)))
    cut = Image.fromarray(tile.image[top : top + side, left : left + side])
    return (left, top, side), np.array(cut.resize((PICTURE, PICTURE), Image.Resampling.BILINEAR))


def worst(answers: Sequence[Failure], dataset: str, begin: str, count: int = COLUMNS) -> list[Failure]:
    """Return the answers of a set and a first prompt with the lowest IoU, in ascending order."""
    chosen = [answer for answer in answers if answer.dataset == dataset and answer.begin == begin]
    return sorted(chosen, key=lambda answer: answer.iou)[:count]


def draw_sheet(rows: Sequence[Sequence[Failure]]) -> Image.Image:
    """Draw answers in rows: truth yellow, answer magenta, prompt cyan, and IoU with the score below."""
    sheet = Image.new("RGB", (COLUMNS * CELL, len(rows) * (CELL + CAPTION)), "white")
    for row, failures in enumerate(rows):
        for column, failure in enumerate(failures):
            place = column * CELL, row * (CELL + CAPTION)
            sheet.paste(_picture(failure), place)
            caption = f"{failure.begin}: IoU {failure.iou:.2f}, score {failure.score:.2f}"
            ImageDraw.Draw(sheet).text((place[0] + 3, place[1] + CELL + 2), caption, fill="black")
    return sheet


def _picture(failure: Failure) -> Image.Image:
    left, top, side = failure.window
    picture = Image.fromarray(failure.image)
    canvas = ImageDraw.Draw(picture)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x - left) * PICTURE / side, (y - top) * PICTURE / side

    for polygons, colour in ((polygon_parts(failure.truth), TRUTH), (failure.answer, ANSWER)):
        for polygon in polygons:
            for ring in (polygon.exterior, *polygon.interiors):
                canvas.line([at(x, y) for x, y in ring.coords], fill=colour, width=2)
    if failure.prompts[-1][2] == BOX_HIGH:
        (x0, y0, _), (x1, y1, _) = failure.prompts
        canvas.rectangle((*at(x0, y0), *at(x1, y1)), outline=PROMPT)
    else:
        x, y = at(*failure.prompts[0][:2])
        canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=PROMPT, outline="black")
    return picture


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as JPEG of at most 200 KB.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    for quality in range(85, 20, -10):
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MAX_BYTES:
            break
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise OutputError(f"cannot write '{path}' ({error.strerror})", "choose another folder") from error


def write_sheets(answers: Sequence[Failure], page: Path, model_hash: str) -> None:
    """Draw a sheet for each set beside the page, and insert them with their credits.

    Raises
    ------
    ModelError
        If the page lacks the markers.
    OutputError
        If a file cannot be written.
    """
    parts = [f"Encoder {model_hash.partition(':')[2][:12]}."]
    for dataset in dict.fromkeys(answer.dataset for answer in answers):
        rows = [worst(answers, dataset, begin) for begin in ("click", "box")]
        picture = PICTURES / f"failures_{dataset.replace('/', '_').replace(' ', '_')}.jpg"
        save_sheet(draw_sheet(rows), page.parent / picture)
        shares = [f"{_share_of_failures(answers, dataset, begin):.0%} after a {begin}" for begin in ("click", "box")]
        parts.append(f"### {dataset}\n\nIoU below {FAILED_IOU}: {', '.join(shares)}.")
        parts.append(f"![The six worst answers to a click, and to a box, of {dataset}]({picture.as_posix()})")
        parts.append(f"*{CREDITS[dataset]}*")
    replace_sections(page, {"failures": "\n\n".join(parts)})


def _share_of_failures(answers: Sequence[Failure], dataset: str, begin: str) -> float:
    ious = [answer.iou for answer in answers if answer.dataset == dataset and answer.begin == begin]
    return float(np.mean(np.asarray(ious) < FAILED_IOU))


def main() -> None:
    """Parse the command line and draw the sheets."""
    parser = measurement_parser("failures", __doc__)
    parser.add_argument("--page", type=Path, required=True, help="page for the sheets, which are saved beside it")
    options = parser.parse_args()
    try:
        info = read_model_info(options.models)
        work = [tile for scene in held_out(options.data, options.limit) for tile in tiles(scene)]
        found = map_with_model(find_answers, work, options.models, options.processes)
        answers = [answer for part in tqdm(found, total=len(work), unit="tile", disable=None) for answer in part]
        write_sheets(answers, options.page, info.encoder_sha256)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
