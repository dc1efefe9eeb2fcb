"""The report of an evaluation: one HTML page that needs no other file, no script, no network."""

import math

import numpy as np

from loc_keras.evaluation.figures import format_value, percent
from loc_keras.evaluation.outcomes import Evaluation
from loc_keras.report import evaluation_charts as evaluation_trust
from loc_keras.report import evaluation_pictures as evaluation_galleries
from loc_keras.report import evaluation_tables, html
from loc_keras.report import evaluation_tables as evaluation_confusion
from loc_keras.report import html as boxed_picture
from loc_keras.report.evaluation_charts import (
    SCALE,
    corner_curve,
    guarantee_parts,
    iou_curve,
    iou_histogram,
    reliability_parts,
    shift_parts,
    verdict,
)
from loc_keras.report.evaluation_content import (
    EvaluationPage,
    PictureChoice,
    choose_pictures,
    easy_sentence,
    gain_sentence,
    join_words,
)
from loc_keras.report.evaluation_pictures import failure_parts, group_galleries, suspect_parts
from loc_keras.report.evaluation_tables import (
    class_tables,
    confusion_parts,
    error_bar,
    figure_table,
    group_table,
    headline_cards,
    position_field,
)
from loc_keras.report.style import MUTED, WRONG_INK, clean
from loc_keras.report.thumbnails import figure_uri

FEW = 100
"""Images below which intervals are so wide that it is said."""

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


def summary_list(page: EvaluationPage) -> str:
    """The sentences that apply, as a list; each leads to the part that says more."""
    found = page.evaluation
    sentences = [
        ("figures", _few(found)),
        ("figures", gain_sentence(found)),
        ("figures", easy_sentence(found)),
        ("errors", _errors(found)),
        ("groups", _weak_classes(found)),
        *_trust(page),
        ("suspects", _suspects(page)),
    ]
    items = [
        f'<li>{html.safe(words, 600)} <a href="#{key}">{_LINKS[key]}</a></li>'
        for key, words in sentences
        if words
    ]
    return f'<ul class="summary">{"".join(items)}</ul>' if items else ""


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


CSS = f"""
nav {{ margin: 18px 0 0; font-size: 13.5px; }}
nav a {{ display: inline-block; margin: 0 16px 4px 0; }}
h4 {{ font-size: 13.5px; margin: 12px 0 4px; color: {MUTED}; overflow-wrap: anywhere; }}
.summary {{ margin: 14px 0 0; padding-left: 20px; max-width: 90ch; }}
.summary li {{ margin: 3px 0; overflow-wrap: anywhere; }}
.alarm {{ color: {WRONG_INK}; font-weight: bold; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 6px 14px; margin: 10px 0; }}
.charts .chart {{ margin: 0; }}
@media print {{
  nav, .summary a {{ display: none; }}
  .charts {{ flex-wrap: nowrap; break-inside: avoid; }}
  .charts .chart {{ flex: 0 1 32%; min-width: 0; }}
}}
"""

FLOORS = (
    "A good-looking figure is worth what it has above boxes that never look at the picture, {}: "
    "the column gain says how much, beside the better of them."
)
ONE_CLASS = (
    "There is one class: the class is always right, so that only the box is learned and measured."
)

Section = tuple[str, str, list[str]]


def evaluation_page(page: EvaluationPage) -> str:
    """The page as HTML.

    Args:
        page: All that it shows; `wanted_pictures` says which pictures are looked for.
    """
    choice = choose_pictures(page.rows)
    sections = [section for section in _sections(page, choice) if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = [
        "<header>",
        f"<h1>{html.safe(page.title)}</h1>",
        f'<p class="quiet">{_about(page)}</p>',
        "</header>",
        "<main>",
        headline_cards(page.evaluation, _headline(page.evaluation)),
        summary_list(page),
        f'<nav aria-label="Contents">{links}</nav>',
    ]
    for key, title, parts in sections:
        body += [f'<section><h2 id="{key}">{title}</h2>', *parts, "</section>"]
    body.append("</main>")
    style = CSS + "".join(
        part.CSS
        for part in (
            boxed_picture,
            evaluation_tables,
            evaluation_confusion,
            evaluation_galleries,
            evaluation_trust,
        )
    )
    return html.page(f"Evaluation: {page.title}", body, style)


def _sections(page: EvaluationPage, choice: PictureChoice) -> list[Section]:
    found = page.evaluation
    sections: list[Section] = [
        ("figures", "All figures", _figures(found)),
        ("errors", "Kinds of mistakes", _errors_evaluation_page(found)),
        ("boxes", "How well boxes agree", _boxes(page)),
        ("groups", "By class, size and position", _groups(page, choice)),
    ]
    if len(found.class_names) > 1:
        parts = confusion_parts(found.confusion, found.class_names)
        sections.append(("confusion", "Confused classes", parts))
    if len(found.class_names) > 1 or page.trust is not None:
        sections.append(("reliability", "Reliability of probabilities", _reliability(page)))
    if page.trust is not None:
        sections += [
            ("guarantees", "Guarantees", guarantee_parts(page.trust, found.level)),
            (
                "shift",
                "Shift monitor",
                shift_parts(page.trust.shift),
            ),
        ]
    pictures = failure_parts(page, choice) if len(page.rows) else []
    return [
        *sections,
        ("pictures", "Worst and best", pictures),
        ("suspects", "Suspect annotations", suspect_parts(page)),
        ("how", "How this was measured", _how(page)),
    ]


def _about(page: EvaluationPage) -> str:
    found = page.evaluation
    empty = found.images - found.object_images
    classes = len(found.class_names)
    parts = [
        page.run,
        f"{page.split} split",
        f"{found.images:,} image{'' if found.images == 1 else 's'}",
        *([f"{empty:,} of them without an object"] if empty else []),
        f"{classes:,} class{'' if classes == 1 else 'es'}",
    ]
    return " · ".join(html.name(part) for part in parts)


def _headline(found: Evaluation) -> tuple[str, ...]:
    if len(found.class_names) == 1:
        return ("mean_iou", "gt_known_loc", "acc75", "corner_error_px")
    return ("top1_loc", "class_accuracy", "mean_iou", "gt_known_loc", "rejection")


def _figures(found: Evaluation) -> list[str]:
    sentences = [gain_sentence(found)]
    if len(found.class_names) == 1:
        sentences.append(ONE_CLASS)
    if found.baselines:
        sentences.append(FLOORS.format(join_words([f"the {name}" for name in found.baselines])))
    if found.images != found.object_images:
        sentences.append(
            "Box and localization figures are of the images with an object; class accuracy is of "
            "all."
        )
    return [
        *(f"<p>{html.safe(one, 600)}</p>" for one in sentences if one),
        figure_table(found),
    ]


def _errors_evaluation_page(found: Evaluation) -> list[str]:
    count = found.object_images
    words = f"<p>Each of the {count:,} images with an object is one of these.</p>"
    return [*([words] if count > 1 else []), error_bar(found)]


def _boxes(page: EvaluationPage) -> list[str]:
    shown = page.rows.shown
    ious = np.clip(np.nan_to_num(np.asarray(page.rows.ious, np.float64)[shown]), 0, 1)
    if not len(ious):
        return []
    errors = np.asarray(page.rows.corner_errors_px, np.float64)[shown]
    errors = errors[np.isfinite(errors)]
    median = float(np.median(ious))
    shares = ", ".join(
        f"{percent(float((ious >= t).mean()))} % at least {name}"
        for t, name in ((0.5, ".5"), (0.75, ".75"), (0.9, ".9"))
    )
    charts = [
        html.chart(
            figure_uri(iou_histogram(ious)),
            f"histogram of the IoU of {len(ious):,} boxes, median {median:.2f}",
            SCALE,
        ),
        html.chart(
            figure_uri(iou_curve(ious, page.evaluation.baselines)),
            f"share of boxes by least IoU: {shares}",
            SCALE,
        ),
    ]
    if len(errors):
        words = f"share of boxes by corner error, median {float(np.median(errors)):,.1f} px"
        charts.append(html.chart(figure_uri(corner_curve(errors)), words, SCALE))
    return ['<div class="charts">' + "".join(charts) + "</div>"]


def _groups(page: EvaluationPage, choice: PictureChoice) -> list[str]:
    found = page.evaluation
    one_class = len(found.class_names) == 1
    lead = "gt_known_loc" if one_class else "top1_loc"
    keys = (lead, "mean_iou", "acc75") if one_class else (lead, "mean_iou", "class_accuracy")
    parts = []
    if not one_class:
        parts += ["<h3>By class, the weakest first</h3>", *class_tables(found, keys)]
    if found.sizes:
        parts += [
            "<h3>By size of the object</h3>",
            group_table("size", found.sizes, keys, level=found.level),
            *group_galleries(
                page, choice.sizes, [one.name for one in found.sizes], "Pictures of each size"
            ),
        ]
    if found.positions:
        parts += [
            "<h3>By position of the object's centre</h3>",
            '<div class="fields">'
            + "".join(position_field(found.positions, key) for key in (lead, "mean_iou"))
            + "</div>",
            *group_galleries(
                page,
                choice.positions,
                [one.name for one in found.positions],
                "Pictures of each position",
            ),
        ]
    return parts


def _reliability(page: EvaluationPage) -> list[str]:
    if not len(page.rows):
        return []
    return reliability_parts(page.rows, page.trust, page.evaluation.level)


def _how(page: EvaluationPage) -> list[str]:
    found = page.evaluation
    rows = [(html.name(label), html.name(value, 400)) for label, value in page.facts]
    rows.append(
        (
            "intervals",
            f"{100 * found.level:g} %, bootstrap over images, {found.resamples:,} resamples, "
            f"seed {found.seed}",
        )
    )
    return [
        html.table(("", ""), rows, named=True),
        "<p>IoU is the area that true and predicted box share over the area that they cover "
        "together. Top-1 localization is that of Russakovsky et al. 2015, GT-known localization "
        "and MaxBoxAccV2 those of Choe et al. 2020. An interval says how far a figure could move "
        "if other images of the same kind were drawn; it knows nothing of other kinds.</p>",
    ]
