"""The page of an evaluation in a few sentences: what a reader must know before the figures."""

import math

from loc_keras.evaluation.results import Evaluation
from loc_keras.report import page_html as html
from loc_keras.report.evaluation_input import EvaluationPage
from loc_keras.report.evaluation_trust import verdict
from loc_keras.report.evaluation_words import (
    easy_sentence,
    format_value,
    gain_sentence,
    join_words,
    percent,
)
from loc_keras.report.text import clean

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
