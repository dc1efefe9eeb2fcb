"""The report of an evaluation: one HTML page that needs no other file, no script, no network."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from loc_keras.errors import clean, counted
from loc_keras.evaluation.figures import figure_of, format_value
from loc_keras.evaluation.outcomes import Evaluation
from loc_keras.report import evaluation_charts as charts
from loc_keras.report import evaluation_content as content
from loc_keras.report import html
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    NearDuplicate,
    Suspect,
    format_iou,
    p_relation,
)
from loc_keras.report.gallery import LOCALIZED_IOU, WRONG_MARK, class_name, is_localized
from loc_keras.report.html import Box, boxed_picture
from loc_keras.report.image_boxes import figure_uri

FEW = 100  # Images below which intervals are so wide that it is said.
MOST_NEAR_DUPLICATES = 3  # Pictures beside that of a suspect.

_LONGEST_NAME = 60
_MOST_LABELS, _SHORT_NAME = 3, 24
_NAMED = 3
_LEAST_OF_CLASS = 10


def evaluation_page(page: EvaluationPage) -> str:
    """The page as HTML; `wanted_pictures` says which pictures are looked for."""
    found = page.evaluation
    level = f"{100 * found.level:g} %"
    choice = content.choose_pictures(page.outcomes, page.confidences)
    sections = _sections(page)
    shown = page.outcomes.shown
    errors = page.outcomes.corner_errors_px[shown]
    headline = ["top1_loc", "class_accuracy", "mean_iou", "gt_known_loc", "rejection"]
    keys = ["top1_loc", "mean_iou", "class_accuracy"]
    if len(found.class_names) == 1:
        headline = ["mean_iou", "gt_known_loc", "acc75", "corner_error_px"]
        keys = ["gt_known_loc", "mean_iou", "acc75"]
    lead, *others = (figure_of(key).name for key in keys)
    return html.render(
        "evaluation.html.j2",
        title=f"Evaluation: {page.title}",
        page=page,
        evaluation=found,
        trust=page.trust,
        names=found.class_names,
        level=level,
        choice=choice,
        sections=sections,
        headline=headline,
        few=found.object_images < FEW,
        weak_classes=_weak_classes(found),
        baseline_names=content.join_words([f"the {name}" for name in found.baselines]),
        errors=charts.error_kinds(found),
        ious=np.clip(np.nan_to_num(page.outcomes.ious[shown]), 0, 1),
        corner_errors=errors[np.isfinite(errors)],
        median=np.median,
        group_keys=keys,
        group_heads=["images", lead, f"{level} interval", "0 to 100 %", *others],
        classes=charts.ranked_classes(found, keys[0]),
        stated=charts.stated_probabilities(page.outcomes, page.trust),
        drawn=figure_uri,
        charts=charts,
        content=content,
        page_legend=page_legend,
        one_picture=one_picture,
        suspect_sentence=suspect_sentence,
        near_duplicate_picture=near_duplicate_picture,
    )


def page_legend(page: EvaluationPage) -> Markup:
    """What the lines of all pictures mean."""
    kinds = ("truth", "pred", *(("outer", "inner") if page.trust is not None else ()))
    one_class = len(page.evaluation.class_names) == 1
    return html.legend(kinds, "IoU < .5" if one_class else "class wrong or IoU < .5")


def one_picture(page: EvaluationPage, row: int, *, explained: bool = False) -> Markup:
    """One image with its boxes and what is to be said about it, perhaps with its explanation."""
    outcomes = page.outcomes
    names = page.evaluation.class_names
    true, said = int(outcomes.labels[row]), int(outcomes.predicted[row])
    iou = float(outcomes.ious[row])
    shows = bool(outcomes.shown[row])
    right = is_localized(true, said, iou) if shows else true == said
    alt = f"true class {class_name(true, names)}, answered {class_name(said, names)}"
    alt += f", IoU {format_iou(iou)}" if shows else ", no object"
    return boxed_picture(
        page.pictures.get(row),
        (int(outcomes.sizes[row, 0]), int(outcomes.sizes[row, 1])),
        _boxes(page, row),
        _caption(page, row),
        alt=alt,
        file=page.names[row],
        bad=not right,
        below=page.explained.get(row) if explained else None,
    )


def near_duplicate_picture(one: NearDuplicate) -> Markup:
    """An image of the training split beside the one that it looks like."""
    return boxed_picture(
        one.picture,
        (1, 1) if one.picture is None else one.picture.shape[:2],
        (),
        ["near duplicate, training split", _bold(one.label)],
        alt=f"image of training, class {one.label}",
        file=one.name,
    )


def suspect_sentence(suspect: Suspect) -> str:
    """Why a true box is perhaps wrong, and how many near duplicates it has."""
    why = clean(suspect.why[:1].upper() + suspect.why[1:], 600).rstrip(".")
    count = len(suspect.near_duplicates)
    if not count:
        return f"{why}."
    more = f"; {MOST_NEAR_DUPLICATES} of them here" if count > MOST_NEAR_DUPLICATES else ""
    return f"{why}. {counted(count, 'near duplicate')} in the training split{more}."


def _sections(page: EvaluationPage) -> dict[str, str]:
    found = page.evaluation
    classes = len(found.class_names) > 1
    sections = {
        "figures": ("All figures", True),
        "errors": ("Kinds of mistakes", True),
        "boxes": ("How well boxes agree", page.outcomes.shown.any()),
        "groups": ("By class, size and position", classes or found.sizes or found.positions),
        "confusion": ("Confused classes", classes),
        "reliability": (
            "Reliability of probabilities",
            len(page.outcomes) and (classes or page.trust is not None),
        ),
        "guarantees": ("Guarantees", page.trust is not None),
        "shift": ("Shift monitor", page.trust is not None),
        "pictures": ("Worst and best", len(page.outcomes)),
        "suspects": ("Suspect annotations", True),
        "how": ("How this was measured", True),
    }
    return {key: title for key, (title, present) in sections.items() if present}


def _weak_classes(found: Evaluation) -> str:
    whole = found.figures.get("top1_loc")
    if whole is None or len(found.class_names) < 2:
        return ""
    weak = sorted(
        (group.figures["top1_loc"].value, group.name)
        for group in found.classes
        if group.images >= _LEAST_OF_CLASS
        and "top1_loc" in group.figures
        and group.figures["top1_loc"].high < whole.value
    )
    if not weak:
        return ""
    named = content.join_words(
        [f"{clean(name, 40)} ({format_value('top1_loc', value)})" for value, name in weak[:_NAMED]]
    )
    classes = "1 class is" if len(weak) == 1 else f"{len(weak):,} classes are"
    first = "" if len(weak) <= _NAMED else "the weakest: "
    return f"In Top-1 localization {classes} clearly below the whole: {first}{named}."


def _boxes(page: EvaluationPage, row: int) -> list[Box]:
    outcomes = page.outcomes
    boxes = []
    if page.trust is not None and (
        outcomes.background is None or outcomes.predicted[row] != outcomes.background
    ):
        boxes += [Box("outer", page.trust.outer_px[row]), Box("inner", page.trust.inner_px[row])]
    if outcomes.shown[row]:
        boxes.append(Box("truth", outcomes.boxes_px[row]))
    # Where the model answers that there is nothing, the box it also gave is shown only beside a
    # true one, with which it is compared.
    if outcomes.shown[row] or outcomes.predicted[row] != outcomes.background:
        boxes.append(Box("pred", outcomes.boxes_pred_px[row]))
    return boxes


def _caption(page: EvaluationPage, row: int) -> list[str]:
    outcomes = page.outcomes
    names = page.evaluation.class_names
    true, said = int(outcomes.labels[row]), int(outcomes.predicted[row])
    lines: list[str] = [_bold(class_name(true, names))]
    if len(names) > 1:
        answer = Markup("said {} · {:.0f} %").format(
            html.name(class_name(said, names), _LONGEST_NAME), 100 * float(page.confidences[row])
        )
        lines.append(_crossed(answer) if true != said else answer)
    if outcomes.shown[row]:
        iou, off = float(outcomes.ious[row]), float(outcomes.corner_errors_px[row])
        box = f"IoU {format_iou(iou)}"
        box += f" · off by {off:,.1f} px" if math.isfinite(off) else ""
        lines.append(box if iou >= LOCALIZED_IOU else _crossed(box))
    if page.trust is not None and math.isfinite(chance := float(page.trust.p_iou50[row])):
        lines.append(f"p(IoU ≥ .5) {100 * chance:.0f} %")
    if page.trust is not None and len(names) > 1:
        labels = _label_set(np.flatnonzero(page.trust.label_sets[row]), names)
        lines.append(Markup("label set: {}").format(labels))
    if "novelty" in outcomes.outputs:
        lines.append(f"novelty p {p_relation(float(outcomes.outputs['novelty'][row]))}")
    return lines


def _label_set(labels: npt.NDArray[np.intp], names: Sequence[str]) -> str:
    if len(labels) > _MOST_LABELS:
        return f"{len(labels):,} classes"
    return Markup(", ").join(html.name(names[label], _SHORT_NAME) for label in labels) or "empty"


def _bold(text: str) -> Markup:
    return Markup("<b>{}</b>").format(html.name(text, _LONGEST_NAME))


def _crossed(words: str) -> Markup:
    return Markup('<span class="cross">{} {}</span>').format(WRONG_MARK, words)
