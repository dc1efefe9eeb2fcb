"""Galleries of an evaluation: each image with its boxes, and what was true and answered."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from loc_keras.report import html
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    Indices,
    Lookalike,
    PictureChoice,
    Suspect,
)
from loc_keras.report.gallery import LOCALIZED_IOU, WRONG_MARK, class_name, format_iou, is_localized
from loc_keras.report.html import SIDE, Box, boxed_picture, legend

CSS = """
.suspects { display: flex; flex-wrap: wrap; gap: 14px; margin: 12px 0; }
.suspect { border: 1px solid #D9D9D9; border-radius: 6px; padding: 10px 14px; max-width: 100%; }
.suspect .pictures { display: flex; flex-wrap: wrap; margin: 10px 0 4px; }
.suspect p { margin: 0; font-size: 13.5px; }
@media (max-width: 600px) {
  .suspect { flex: 1 1 100%; }
  .suspect .pictures figure { width: 130px; }
}
.group h4 { margin-top: 14px; }
"""

_LONGEST_NAME = 60
_MOST_LOOKALIKES = 3
_MOST_LABELS, _SHORT_NAME = 3, 24


def page_legend(page: EvaluationPage) -> str:
    """What the lines of all galleries mean."""
    kinds = ("truth", "pred", *(("outer", "inner") if page.trust is not None else ()))
    one_class = len(page.evaluation.class_names) == 1
    return legend(kinds, bad="IoU < .5" if one_class else "class wrong or IoU < .5")


def failure_parts(page: EvaluationPage, choice: PictureChoice) -> list[str]:
    """The worst and best boxes, and the surest mistakes of the class."""
    objects = int(page.rows.shown.sum())
    parts = [page_legend(page)]
    galleries = [
        (
            "Worst boxes",
            choice.worst,
            f"All {objects:,} images with an object, worst box first."
            if len(choice.worst) == objects > 1
            else "Least IoU first; of boxes that miss altogether, the surest first.",
        ),
        ("Surest wrong classes", choice.wrong_class, "The highest probability of a wrong class."),
        (
            "Surest false alarms",
            choice.false_alarms,
            "Images without an object that were answered with one.",
        ),
        ("Best boxes", choice.best, "Class right, highest IoU first."),
    ]
    for title, rows, rule in galleries:
        if len(rows):
            parts += [f"<h3>{title}</h3>", f"<p>{rule}</p>", gallery(page, rows)]
    return parts


def group_galleries(
    page: EvaluationPage, found: dict[int, Indices], names: Sequence[str], title: str
) -> list[str]:
    """Pictures of each group, folded.

    Args:
        page: The input.
        found: Rows of each group, by its place.
        names: Names of the groups, by place.
        title: What the fold says.
    """
    if not found:
        return []
    parts = [
        f'<div class="group whole"><h4>{html.name(names[place], _LONGEST_NAME)}</h4>'
        f"{gallery(page, rows)}</div>"
        for place, rows in found.items()
    ]
    intro = "<p>Of each, images at even ranks of IoU, the worst first.</p>"
    return [
        f"<details><summary>{html.safe(title)}</summary>{intro}{page_legend(page)}"
        + "".join(parts)
        + "</details>"
    ]


def suspect_parts(page: EvaluationPage) -> list[str]:
    """Images whose true box is perhaps wrong, each beside its look-alikes of training."""
    if not page.suspects:
        return ["<p>No box stands out: where the model was sure of its box, the two agree.</p>"]
    return [
        "<p>Here the model was sure and the true box says otherwise. Some of these are mistakes of "
        "the model, others of the annotation: look, and mend the annotation where it is wrong. "
        "Images of the training split that look alike show what the model was taught.</p>",
        page_legend(page),
        '<div class="suspects">'
        + "\n".join(_suspect(page, one) for one in page.suspects)
        + "</div>",
    ]


def gallery(page: EvaluationPage, rows: Iterable[int]) -> str:
    """Pictures of some rows side by side."""
    return (
        '<div class="pictures">\n' + "\n".join(one_picture(page, int(r)) for r in rows) + "</div>"
    )


def one_picture(page: EvaluationPage, row: int) -> str:
    """One image with its boxes and what is to be said about it."""
    rows = page.rows
    names = page.evaluation.class_names
    true, said = int(rows.labels[row]), int(rows.predicted[row])
    iou = float(rows.ious[row])
    shows = bool(rows.shown[row])
    right = is_localized(true, said, iou) if shows else true == said
    alt = f"true class {_name(true, names)}, answered {_name(said, names)}"
    alt += f", IoU {format_iou(iou)}" if shows else ", no object"
    return boxed_picture(
        page.pictures.get(row),
        (int(rows.sizes[row, 0]), int(rows.sizes[row, 1])),
        _boxes(page, row),
        _caption(page, row),
        alt=alt,
        file=page.names[row],
        bad=not right,
    )


def _boxes(page: EvaluationPage, row: int) -> list[Box]:
    rows = page.rows
    boxes = []
    if page.trust is not None and (
        rows.background is None or rows.predicted[row] != rows.background
    ):
        boxes += [Box("outer", page.trust.outer_px[row]), Box("inner", page.trust.inner_px[row])]
    if rows.shown[row]:
        boxes.append(Box("truth", rows.boxes_px[row]))
    # Where the model answers that there is nothing, the box it also gave is shown only beside a
    # true one, with which it is compared.
    if rows.shown[row] or rows.predicted[row] != rows.background:
        boxes.append(Box("pred", rows.boxes_pred_px[row]))
    return boxes


def _caption(page: EvaluationPage, row: int) -> list[str]:
    rows = page.rows
    names = page.evaluation.class_names
    true, said = int(rows.labels[row]), int(rows.predicted[row])
    lines = [f"<b>{html.name(_name(true, names), _LONGEST_NAME)}</b>"]
    if len(names) > 1:
        answer = f"said {html.name(_name(said, names), _LONGEST_NAME)}"
        answer += f" · {100 * float(rows.confidence[row]):.0f} %"
        lines.append(_crossed(answer) if true != said else answer)
    if rows.shown[row]:
        iou, off = float(rows.ious[row]), float(rows.corner_errors_px[row])
        box = f"IoU {format_iou(iou)}"
        box += f" · off by {off:,.1f} px" if math.isfinite(off) else ""
        lines.append(box if iou >= LOCALIZED_IOU else _crossed(box))
    if page.trust is not None and math.isfinite(chance := float(page.trust.p_iou50[row])):
        lines.append(f"p(IoU ≥ .5) {100 * chance:.0f} %")
    if page.trust is not None and len(names) > 1:
        lines.append(f"label set: {_label_set(np.flatnonzero(page.trust.label_sets[row]), names)}")
    return lines


def _label_set(labels: npt.NDArray[np.intp], names: Sequence[str]) -> str:
    if len(labels) > _MOST_LABELS:
        return f"{len(labels):,} classes"
    return ", ".join(html.name(names[label], _SHORT_NAME) for label in labels) or "empty"


def _suspect(page: EvaluationPage, suspect: Suspect) -> str:
    pictures = [one_picture(page, suspect.index)]
    pictures += [_lookalike(one) for one in suspect.lookalikes[:_MOST_LOOKALIKES]]
    why = html.safe(suspect.why[:1].upper() + suspect.why[1:], 600).rstrip(".")
    count = len(suspect.lookalikes)
    if count:
        more = f"; {_MOST_LOOKALIKES} of them here" if count > _MOST_LOOKALIKES else ""
        alike = f"{count:,} image{'' if count == 1 else 's'} of training look"
        why += f". {alike}{'s' if count == 1 else ''} alike{more}"
    # The words are as wide as the pictures below them, so that suspects stand side by side.
    width = len(pictures) * SIDE + (len(pictures) - 1) * 16
    return (
        f'<div class="suspect whole"><p style="max-width: {width}px">{why}.</p>'
        '<div class="pictures">\n' + "\n".join(pictures) + "</div></div>"
    )


def _lookalike(one: Lookalike) -> str:
    size = (1, 1) if one.picture is None else (one.picture.shape[0], one.picture.shape[1])
    return boxed_picture(
        one.picture,
        size,
        (),
        ["looks alike, of training", f"<b>{html.name(one.label, _LONGEST_NAME)}</b>"],
        alt=f"image of training, class {one.label}",
        file=one.name,
    )


def _crossed(words: str) -> str:
    return f'<span class="cross">{WRONG_MARK} {words}</span>'


def _name(label: int, names: Sequence[str]) -> str:
    return class_name(label, names)
