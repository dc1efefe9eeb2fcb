"""The report of an evaluation: one HTML page that needs no other file, no script, no network."""

import numpy as np

from loc_keras.errors import clean
from loc_keras.evaluation.figures import figure_of, format_value
from loc_keras.evaluation.outcomes import Evaluation
from loc_keras.report import evaluation_charts as charts
from loc_keras.report import evaluation_content as content
from loc_keras.report import evaluation_pictures as pictures
from loc_keras.report import evaluation_tables as tables
from loc_keras.report import html
from loc_keras.report.thumbnails import figure_uri

FEW = 100
"""Images below which intervals are so wide that it is said."""

_NAMED = 3
_LEAST_OF_CLASS = 10


def evaluation_page(page: content.EvaluationPage) -> str:
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
        errors=tables.error_kinds(found),
        ious=np.clip(np.nan_to_num(page.outcomes.ious[shown]), 0, 1),
        corner_errors=errors[np.isfinite(errors)],
        median=np.median,
        group_keys=keys,
        group_heads=["images", lead, f"{level} interval", "0 to 100 %", *others],
        classes=tables.ranked_classes(found, keys[0]),
        stated=charts.stated_probabilities(page.outcomes, page.trust),
        drawn=figure_uri,
        charts=charts,
        content=content,
        pictures=pictures,
        tables=tables,
    )


def _sections(page: content.EvaluationPage) -> dict[str, str]:
    """Titles of the sections that the page has, by key."""
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
    """Classes whose interval lies below the figure of all."""
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
