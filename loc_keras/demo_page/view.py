"""An answer as the HTML that stands on the page; every name in it is escaped."""

from collections.abc import Iterator, Sequence

from loc_keras.demo_page.submission import NOTHING_SENT, Answered
from loc_keras.localizer import Localization
from loc_keras.report.embedded import encoded
from loc_keras.report.page_html import safe

SIDES = ("x1", "y1", "x2", "y2")

Box = Sequence[float]


def shown(answer: Answered | str) -> str:
    """HTML of an answer, or of the sentence in its place."""
    if isinstance(answer, str):
        kind = "demo-hint" if answer == NOTHING_SENT else "demo-sorry"
        return f'<p class="{kind}" role="status">{safe(answer)}</p>'
    found = answer.found
    uri, (width, height) = encoded(answer.picture)
    words = safe(f"{found.label}, {percent(found.score)}")
    parts = [
        f'<img class="demo-picture" src="{uri}" width="{width}" height="{height}" alt="{words}">',
        f'<h2 class="demo-label"><span>{safe(found.label)}</span> '
        f"<b>{percent(found.score)}</b></h2>",
        *(f'<p class="demo-fact">{safe(fact)}</p>' for fact in facts(found)),
        _classes(found),
        _boxes(found),
    ]
    return f'<div class="demo-answer">{"".join(parts)}</div>'


def percent(fraction: float) -> str:
    """A probability in percent; one that is not 1 is never written as 100 %."""
    text = f"{100 * fraction:.1f}"
    if text == "100.0" and fraction < 1:
        return "> 99.9 %"
    return f"{text} %"


def facts(found: Localization) -> Iterator[str]:
    """What is said in sentences: that nothing was found, and what trust says."""
    if not found.found:
        yield "No object is found, so there is no box."
    if found.p_iou50 is not None:
        yield f"The box is right (IoU at least 0.5) with a probability of {percent(found.p_iou50)}."
    if found.label_set is not None:
        yield f"Classes that cannot be ruled out: {', '.join(found.label_set) or 'none'}."


def box_rows(found: Localization) -> list[tuple[str, str, Box]]:
    """Boxes that there are: how each is drawn, what it is, and its corners in px."""
    rows = (
        ("box", "box", found.box),
        ("outer", "outer, holds the object", found.box_outer),
        ("inner", "inner, lies within it", found.box_inner),
    )
    return [(kind, name, box) for kind, name, box in rows if box is not None]


def _classes(found: Localization) -> str:
    rows = "".join(
        f"<tr><th>{safe(one.label, 80)}</th>"
        f'<td class="demo-bar"><i style="width:{100 * one.score:.1f}%"></i></td>'
        f"<td>{percent(one.score)}</td></tr>"
        for one in found.top_k
    )
    return f'<table class="demo-classes"><tbody>{rows}</tbody></table>'


def _boxes(found: Localization) -> str:
    height, width = found.size
    rows = "".join(
        f'<tr class="demo-{kind}"><th><i></i>{name}</th>'
        + "".join(f"<td>{side:.1f}</td>" for side in box)
        + "</tr>"
        for kind, name, box in box_rows(found)
    )
    size = f"{width} x {height} px"
    if not rows:
        return f'<p class="demo-size">{size}</p>'
    heads = "".join(f"<th>{side}</th>" for side in SIDES)
    return (
        f'<table class="demo-boxes"><thead><tr><th>px of {size.removesuffix(" px")}</th>{heads}'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )
