"""The report of an evaluation: one HTML page that needs no other file, no script, no network."""

import math

import numpy as np
from markupsafe import escape

from loc_keras.evaluation.figures import (
    figure_of,
    format_value,
    percent,
)
from loc_keras.evaluation.outcomes import Evaluation
from loc_keras.report import html
from loc_keras.report.evaluation_charts import (
    SCALE,
    corner_curve,
    iou_curve,
    iou_histogram,
    reliability_diagrams,
)
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    PictureChoice,
    apart_sentence,
    choose_pictures,
    easy_sentence,
    format_gain,
    gain_sentence,
    join_words,
    limits_of_figures,
    p_value,
    shift_sentence,
    verdict,
)
from loc_keras.report.evaluation_pictures import (
    near_duplicate_picture,
    one_picture,
    page_legend,
    suspect_sentence,
)
from loc_keras.report.evaluation_tables import (
    MOST_PAIRS,
    cell_style,
    confusion_of,
    error_kinds,
    field_style,
    ranked_classes,
)
from loc_keras.report.style import clean
from loc_keras.report.thumbnails import Picture, figure_uri

FEW = 100
"""Images below which intervals are so wide that it is said."""

BASELINES = (
    "A figure counts by what it has above the baselines, {}, which are the same box in every "
    "picture: the column gain is the difference to the better one."
)

_LINKS = {
    "figures": "All figures",
    "errors": "Mistakes",
    "groups": "By class",
    "guarantees": "Guarantees",
    "shift": "Shift monitor",
    "suspects": "Suspects",
}
_NAMED = 3
_LEAST_OF_CLASS = 10


def evaluation_page(page: EvaluationPage) -> str:
    """The page as HTML.

    Args:
        page: All that it shows; `wanted_pictures` says which pictures are looked for.
    """
    found = page.evaluation
    level = f"{100 * found.level:g} %"
    choice = choose_pictures(page.outcomes, page.confidences)
    sections = _sections(page)
    keys = _group_keys(found)
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
        about=_about(page),
        headline=_headline(found),
        summary=_summary(page),
        links=_LINKS,
        figure_sentences=_figure_sentences(found),
        errors=error_kinds(found),
        box_charts=_box_charts(page),
        group_keys=keys,
        group_heads=["images", lead, f"{level} interval", "0 to 100 %", *others],
        classes=ranked_classes(found, keys[0]),
        confusion=confusion_of(found.confusion) if "confusion" in sections else None,
        diagrams=(
            reliability_diagrams(page.outcomes, page.trust) if "reliability" in sections else []
        ),
        shift_words=_shift_words(page),
        worst_rule=_worst_rule(page, choice),
        legend=page_legend(page),
        picture=one_picture,
        near_duplicate=near_duplicate_picture,
        gain=format_gain,
        suspect_sentence=suspect_sentence,
        field_style=field_style,
        cell_style=cell_style,
        verdict=verdict,
        p_value=p_value,
        CHART_SCALE=SCALE,
        MOST_PAIRS=MOST_PAIRS,
    )


def _sections(page: EvaluationPage) -> dict[str, str]:
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


def _shift_words(page: EvaluationPage) -> str:
    """The verdict of the shift monitor, with its p-value kept on one line."""
    if page.trust is None:
        return ""
    words = shift_sentence(page.trust.shift)
    return escape(words.replace("p = ", "p\xa0=\xa0").replace("p < ", "p\xa0<\xa0"))


def _worst_rule(page: EvaluationPage, choice: PictureChoice) -> str:
    objects = int(page.outcomes.shown.sum())
    if len(choice.worst) == objects > 1:
        return f"All {objects:,} images with an object, worst box first."
    return "Least IoU first; of boxes that miss altogether, the surest first."


def _summary(page: EvaluationPage) -> list[tuple[str, str]]:
    """The sentences that apply, each with the section that says more."""
    found = page.evaluation
    sentences = [
        ("figures", _few(found)),
        ("figures", apart_sentence(found)),
        ("figures", gain_sentence(found)),
        ("figures", easy_sentence(found)),
        ("errors", _errors(found)),
        ("groups", _weak_classes(found)),
        *_trust(page),
        ("suspects", _suspects(page)),
    ]
    return [(key, words) for key, words in sentences if words]


def _few(found: Evaluation) -> str:
    if found.object_images >= FEW:
        return ""
    count = found.object_images
    if count == 0:
        return "No image shows an object: nothing can be said about boxes."
    return (
        f"These figures are of {count} image{'' if count == 1 else 's'} with an object: too few to "
        "tell models apart; mind the intervals."
    )


def _errors(found: Evaluation) -> str:
    """Which kind of mistake prevails."""
    shares = {key: one.value for key, one in found.errors.items() if math.isfinite(one.value)}
    right = shares.get("right")
    if right is None:
        return ""
    if right == 1:
        return "No image with an object was answered wrong."
    if len(found.class_names) == 1:
        return ""
    wrong_class = shares.get("class_wrong", 0.0) + shares.get("both_wrong", 0.0)
    wrong_box = shares.get("box_wrong", 0.0) + shares.get("both_wrong", 0.0)
    return (
        f"Of the images with an object {percent(1 - right)} % are answered wrong: the class of "
        f"{percent(wrong_class)} %, the box of {percent(wrong_box)} %."
    )


def _weak_classes(found: Evaluation) -> str:
    """Classes whose interval lies below the figure of all."""
    whole = found.figures.get("top1_loc")
    if whole is None or len(found.class_names) < 2:
        return ""
    weak = [
        (group.figures["top1_loc"].value, group.name)
        for group in found.classes
        if group.images >= _LEAST_OF_CLASS
        and "top1_loc" in group.figures
        and group.figures["top1_loc"].high < whole.value
    ]
    if not weak:
        return ""
    named = [
        f"{clean(name, 40)} ({format_value('top1_loc', value)})"
        for value, name in sorted(weak)[:_NAMED]
    ]
    count = len(weak)
    classes = "1 class is" if count == 1 else f"{count:,} classes are"
    first = "" if count <= _NAMED else "the weakest: "
    return f"In Top-1 localization {classes} clearly below the whole: {first}{join_words(named)}."


def _trust(page: EvaluationPage) -> list[tuple[str, str]]:
    if page.trust is None:
        return []
    broken = [one for one in page.trust.guarantees if verdict(one) == "broken"]
    lines = []
    if broken:
        names = join_words(
            [
                f"{one.name} ({percent(one.kept.value)} % of {percent(one.asked)} %)"
                for one in broken
            ]
        )
        lines.append(("guarantees", f"Guarantees that were not kept: {names}."))
    elif page.trust.guarantees:
        lines.append(("guarantees", "No guarantee about label sets and boxes was found broken."))
    if page.trust.shift.found:
        lines.append(
            (
                "shift",
                "The shift monitor warns: these images do not look to the model as those of the "
                "calibration split did.",
            )
        )
    else:
        lines.append(("shift", "The shift monitor found no shift."))
    return lines


def _suspects(page: EvaluationPage) -> str:
    count = len(page.suspects)
    if not count:
        return ""
    return (
        f"{count} true box{' is' if count == 1 else 'es are'} perhaps annotated wrong; look at "
        f"{'it' if count == 1 else 'them'} before training again."
    )


def _about(page: EvaluationPage) -> list[str]:
    found = page.evaluation
    empty = found.images - found.object_images
    classes = len(found.class_names)
    return [
        page.run,
        f"{page.split} split",
        f"{found.images:,} image{'' if found.images == 1 else 's'}",
        *([f"{empty:,} of them without an object"] if empty else []),
        f"{classes:,} class{'' if classes == 1 else 'es'}",
    ]


def _headline(found: Evaluation) -> tuple[str, ...]:
    if len(found.class_names) == 1:
        return ("mean_iou", "gt_known_loc", "acc75", "corner_error_px")
    return ("top1_loc", "class_accuracy", "mean_iou", "gt_known_loc", "rejection")


def _group_keys(found: Evaluation) -> tuple[str, str, str]:
    if len(found.class_names) == 1:
        return ("gt_known_loc", "mean_iou", "acc75")
    return ("top1_loc", "mean_iou", "class_accuracy")


def _figure_sentences(found: Evaluation) -> list[str]:
    sentences = [gain_sentence(found), *limits_of_figures(found)]
    if found.baselines:
        sentences.append(BASELINES.format(join_words([f"the {name}" for name in found.baselines])))
    return [sentence for sentence in sentences if sentence]


def _box_charts(page: EvaluationPage) -> list[tuple[Picture, str]]:
    """Charts of how well boxes agree, each with what it shows."""
    shown = page.outcomes.shown
    ious = np.clip(np.nan_to_num(np.asarray(page.outcomes.ious, np.float64)[shown]), 0, 1)
    if not len(ious):
        return []
    errors = np.asarray(page.outcomes.corner_errors_px, np.float64)[shown]
    errors = errors[np.isfinite(errors)]
    shares = ", ".join(
        f"{percent(float((ious >= t).mean()))} % at least {name}"
        for t, name in ((0.5, ".5"), (0.75, ".75"), (0.9, ".9"))
    )
    median = f"histogram of the IoU of {len(ious):,} boxes, median {float(np.median(ious)):.2f}"
    charts = [
        (iou_histogram(ious), median),
        (iou_curve(ious, page.evaluation.baselines), f"share of boxes by least IoU: {shares}"),
    ]
    if len(errors):
        words = f"share of boxes by corner error, median {float(np.median(errors)):,.1f} px"
        charts.append((corner_curve(errors), words))
    return [(figure_uri(figure), words) for figure, words in charts]
