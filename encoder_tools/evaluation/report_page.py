"""The HTML page of a report, with all pictures embedded."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from .evaluate import Evaluation, Outcome
from .figures import COLOURS, clicks_figure, distribution_figure
from .metrics import BOUNDARY_TOLERANCE, Interval
from .pictures import RasterWindows, before_after_sheet, worst_sheet
from .summary import CLICK_GOALS, METRIC_NAMES, METRICS, SIZES, Row, differences, group_rows, size_of, summary_rows

__all__ = ["html_page", "left_out_list", "render"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: .8rem 0; } th, td { padding: .25rem .7rem; text-align: right; }
th { border-bottom: 2px solid #888; font-weight: 600; } td { border-bottom: 1px solid #e2e2e2; }
th.text, td.text { text-align: left; } small { color: #666; white-space: nowrap; } img { max-width: 100%; }
.note { background: #fff6dc; border-left: 4px solid #e0b400; padding: .4rem .8rem; }
.better { color: #14713c; font-weight: 600; } .worse { color: #b3261e; font-weight: 600; }
"""


def render(
    title: str, facts: Mapping[str, str], notes: Sequence[str], evaluation: Evaluation, windows: RasterWindows
) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
    facts : mapping of str to str
        Shown at the top.
    notes : sequence of str
        Warnings.
    evaluation : Evaluation
    windows : RasterWindows
        For the pictures.
    """
    outcomes = evaluation.outcomes
    parts = [
        left_out_list(evaluation.left_out),
        _overall(outcomes),
        _differences(outcomes),
        _distributions(outcomes),
        _clicks(outcomes),
        _groups("By class", "Class", group_rows(outcomes, lambda o: o.truth.class_name)),
        _sizes(outcomes),
        _pictures(outcomes, windows),
        _meaning(),
    ]
    return html_page(title, facts, notes, parts)


def html_page(title: str, facts: Mapping[str, str], notes: Sequence[str], parts: Sequence[str]) -> str:
    """Return a page with a table of facts and warnings at the top; empty parts are left out."""
    shown = [
        f"<h1>{escape(title)}</h1>",
        _facts(facts),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        *filter(None, parts),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(shown)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><td class="text">{escape(k)}</td><td class="text">{escape(v)}</td></tr>' for k, v in facts.items()
    )
    return f"<table>{rows}</table>"


def left_out_list(left_out: Mapping[str, str]) -> str:
    """Return how many objects were not used, by reason."""
    if not left_out:
        return ""
    by_reason = Counter(left_out.values())
    items = "".join(f"<li>{count}: {escape(reason)}</li>" for reason, count in by_reason.items())
    return f"<p>{len(left_out)} objects were not used:</p><ul>{items}</ul>"


def _overall(outcomes: Sequence[Outcome]) -> str:
    rows = summary_rows(outcomes)
    return "<h2>All objects</h2>" + _table(["Prompts", "Decoder"], rows, lambda row: (row.prompts, row.decoder))


def _differences(outcomes: Sequence[Outcome]) -> str:
    rows = differences(outcomes)
    if not rows:
        return ""
    first = outcomes[0].decoder
    body = "".join(
        f'<tr><td class="text">{escape(row.prompts)}</td><td class="text">{escape(row.decoder)}</td>'
        f"<td>{row.objects}</td>{''.join(_difference_cell(row.values[name]) for name in METRICS)}</tr>"
        for row in rows
    )
    return (
        f"<h2>Difference from {escape(first)}</h2><p>Mean difference on the same objects, coloured where the 95 %"
        f" interval excludes zero.</p>{_head_row(['Prompts', 'Decoder'])}{body}</table>"
    )


def _difference_cell(value: Interval) -> str:
    kind = ("better" if value.mean > 0 else "worse") if value.excludes_zero else ""
    interval = f"{value.low:+.3f} to {value.high:+.3f}"
    return f'<td><span class="{kind}">{value.mean:+.3f}</span><br><small>{interval}</small></td>'


def _distributions(outcomes: Sequence[Outcome]) -> str:
    return (
        "<h2>Distribution of the IoU</h2><p>Each dot is an object. The bar shows the quartiles, the line the median,"
        f" the diamond the mean.</p>{_image(distribution_figure(outcomes), 'IoU of each object')}"
    )


def _clicks(outcomes: Sequence[Outcome]) -> str:
    kinds = [kind for kind in dict.fromkeys(o.prompts for o in outcomes) if _clicks_of(outcomes, kind) > 1]
    parts = []
    for kind in kinds:
        rows = [row for row in summary_rows(outcomes) if row.prompts == kind]
        body = "".join(
            f'<tr><td class="text">{escape(row.decoder)}</td>'
            + "".join(_click_cells(row, goal) for goal in CLICK_GOALS)
            for row in rows
        )
        heads = "".join(f"<th>Clicks to {goal:.0%}</th><th>Reached</th>" for goal in CLICK_GOALS)
        parts.append(
            f"<h2>Corrective clicks ({escape(kind)})</h2><p>Each click is in the middle of the largest error. Objects"
            f" that do not reach the goal count with all {_clicks_of(outcomes, kind)} clicks.</p>"
            f'<table><tr><th class="text">Decoder</th>{heads}</tr>{body}</table>'
            + _image(clicks_figure(outcomes, kind), "IoU after each click")
        )
    return "".join(parts)


def _clicks_of(outcomes: Iterable[Outcome], kind: str) -> int:
    return max(len(outcome.ious) for outcome in outcomes if outcome.prompts == kind)


def _click_cells(row: Row, goal: float) -> str:
    name = f"{100 * goal:.0f}"
    return _cell(row.values[f"clicks_to_{name}"], digits=2) + f"<td>{row.values[f'reached_{name}'].mean:.0%}</td>"


def _groups(title: str, head: str, rows: Sequence[Row]) -> str:
    if not any(row.group for row in rows):
        return ""
    return f"<h2>{title}</h2>" + _table(
        [head, "Prompts", "Decoder"], rows, lambda row: (row.group or "(none)", row.prompts, row.decoder)
    )


def _sizes(outcomes: Sequence[Outcome]) -> str:
    table = _groups("By size", "Size", group_rows(outcomes, size_of, SIZES))
    return f"{table}<p>Small objects have fewer than 32 x 32 pixels of the raster, large ones at least 96 x 96.</p>"


def _pictures(outcomes: Sequence[Outcome], windows: RasterWindows) -> str:
    decoders = list(dict.fromkeys(outcome.decoder for outcome in outcomes))
    kinds = list(dict.fromkeys(outcome.prompts for outcome in outcomes))
    lines = "The dashed yellow line is the truth, the solid line the result; dots are clicks, negative ones in red."
    if not windows.any_found:
        lines += " The raster is not next to the store; use --raster to show it."
    parts = []
    if len(decoders) > 1:
        before, after = decoders[0], decoders[1]
        for kind in kinds:
            sheet = before_after_sheet(outcomes, kind, before, after, windows)
            parts.append(
                f"<h2>{escape(before)} and {escape(after)}, {escape(kind)}</h2><p>Greatest gains, then"
                f" median changes, then greatest losses. {lines}</p>{_image(sheet, 'pairs of results')}"
            )
    last = decoders[1] if len(decoders) > 1 else decoders[0]
    sheet = worst_sheet(outcomes, last, COLOURS[min(1, len(decoders) - 1)], windows)
    parts.append(f"<h2>Worst results of {escape(last)}</h2><p>{lines}</p>{_image(sheet, 'the worst results')}")
    return "".join(parts)


def _meaning() -> str:
    return (
        "<h2>Metrics</h2><p>IoU is the area of the intersection of result and truth over that of their union; Dice"
        " ranks in the same order with higher values. Precision is the share of the result that is correct, recall the"
        f" share of the truth that was found. Boundary F is the F-score of boundaries within {BOUNDARY_TOLERANCE:g}"
        " pixels. All are measured for each object and averaged, with the 95 % bootstrap interval in small type."
        " <b>point</b> is one click in the middle of the object, <b>box</b> its bounding box, <b>box:0.1</b> a box"
        " whose sides are off by up to 10 %, <b>clicks:5</b> one click and up to four corrections.</p>"
    )


def _table(heads: Sequence[str], rows: Sequence[Row], labels: Callable[[Row], Sequence[str]]) -> str:
    body = []
    for row in rows:
        texts = "".join(f'<td class="text">{escape(text)}</td>' for text in labels(row))
        cells = "".join(_cell(row.values[name]) for name in METRICS)
        body.append(f"<tr>{texts}<td>{row.objects}</td>{cells}</tr>")
    return f"{_head_row(heads)}{''.join(body)}</table>"


def _head_row(heads: Sequence[str]) -> str:
    texts = "".join(f'<th class="text">{escape(head)}</th>' for head in heads)
    return f"<table><tr>{texts}<th>Objects</th>{''.join(f'<th>{name}</th>' for name in METRIC_NAMES.values())}</tr>"


def _cell(value: Interval, digits: int = 3) -> str:
    return f"<td>{value.mean:.{digits}f}<br><small>{value.low:.{digits}f} to {value.high:.{digits}f}</small></td>"


def _image(data: bytes, alt: str) -> str:
    return f'<p><img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></p>'
