"""An answer as the HTML that stands on the page; every name in it is escaped."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.demo_page.guard import MEGABYTE
from loc_keras.errors import ImageError
from loc_keras.localizer import Localization, Localizer
from loc_keras.report.html import safe
from loc_keras.report.style import BLUE, PREDICTION, WRONG
from loc_keras.report.thumbnails import encoded

NOTHING_SENT = "Drop an image here, or take one with the camera."
GONE = "This image is no longer held; send it again."
FAULT = "This image could not be answered by a fault of ours; the terminal has its details."

_SHOWN_SIDE = 1600
"""Px of the longer side of the picture that is sent back."""


@dataclass(frozen=True)
class Answered:
    """An answer as it is shown.

    Attributes:
        found: The answer of the model.
        picture: RGB, with the boxes drawn, at most `_SHOWN_SIDE` px a side.
    """

    found: Localization
    picture: Image.Image


def answer(localizer: Localizer, file: Path | None, file_bytes: int, top_k: int) -> Answered | str:
    """Answers about an uploaded file.

    Args:
        localizer: The model.
        file: What was sent; None where nothing was.
        file_bytes: Largest file that is read.
        top_k: How many classes are told.

    Returns:
        The answer, or a sentence that says why there is none. Nothing that was sent raises.
    """
    if file is None:
        return NOTHING_SENT
    try:
        size = file.stat().st_size
        if size > file_bytes:
            return f"{file.name} {too_many_bytes(size, file_bytes)}."
        return answer_content(localizer, file.read_bytes(), top_k)
    except FileNotFoundError:
        return GONE
    except ImageError as error:
        return f"{file.name} {error.reason}."
    except Exception:  # A visitor is told one sentence, whatever it is.
        logging.getLogger(__name__).exception("no answer about %s", file.name)
        return FAULT


def answer_content(localizer: Localizer, content: bytes, top_k: int) -> Answered:
    """Answers about the bytes of a file.

    Raises:
        ImageError: If they cannot be read.
    """
    # As bytes it is read once, and gives what the file gives.
    found = localizer.predict(content, top_k=top_k)
    picture = localizer.annotate(content, found)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return Answered(found, picture)


def warm(localizer: Localizer, top_k: int) -> None:
    """Answers once about a grey picture, so that all that is compiled at a first call is there."""
    height, width = localizer.form.size
    grey = Image.fromarray(np.full((2 * height, 2 * width, 3), 128, np.uint8))
    encoded(answer_content(localizer, _png(grey), top_k).picture)


def too_many_bytes(size: int, most: int) -> str:
    """What is told of a file that is too large, as the end of a sentence that starts with it."""
    return f"has {size / MEGABYTE:,.1f} MB; at most {most / MEGABYTE:g} MB are taken"


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


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


CSS = f"""
.gradio-container {{ width: 100% !important; max-width: 1180px !important;
  margin: 0 auto !important; }}
footer {{ display: none !important; }}
.demo-head h1 {{ font-size: 22px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }}
.demo-head p {{ margin: 2px 0 0; opacity: 0.7; overflow-wrap: anywhere; }}
.demo-answer {{ display: flex; flex-direction: column; gap: 10px; }}
.demo-picture {{ max-width: 100%; max-height: 62vh; width: auto; height: auto; margin: 0 auto;
  border-radius: 6px; outline: 1px solid var(--border-color-primary); }}
.demo-label {{ font-size: 22px; margin: 4px 0 0; display: flex; gap: 12px; align-items: baseline;
  justify-content: space-between; }}
.demo-label span {{ overflow-wrap: anywhere; }}
.demo-label b {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.demo-fact, .demo-size {{ margin: 0; overflow-wrap: anywhere; }}
.demo-size {{ opacity: 0.7; }}
.demo-answer table {{ width: 100%; border-collapse: collapse; font-size: 14px; margin: 0; }}
.demo-answer th, .demo-answer td {{ border: 0; padding: 4px 8px 4px 0; text-align: left;
  font-weight: 400; vertical-align: middle; }}
.demo-label span {{ font-weight: 600; }}
.demo-answer td:last-child, .demo-boxes td, .demo-boxes thead th + th {{ text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; padding: 4px 0 4px 10px; }}
.demo-classes th {{ width: 34%; overflow-wrap: anywhere; }}
.demo-classes td:last-child {{ width: 5em; }}
.demo-bar i {{ display: block; min-width: 1px; height: 10px; border-radius: 3px;
  background: {BLUE}; }}
.demo-boxes thead th {{ opacity: 0.7; }}
.demo-boxes tbody tr {{ border-top: 1px solid var(--border-color-primary); }}
.demo-boxes i {{ display: inline-block; width: 24px; height: 16px; margin-right: 8px;
  vertical-align: -3px; background: #555; box-shadow: 0 0 0 1px #555; }}
.demo-box i {{ border: 3px solid {PREDICTION}; }}
.demo-outer i {{ border: 2px dashed #fff; }}
.demo-inner i {{ border: 2px solid {BLUE}; background: #fff; }}
.demo-hint, .demo-sorry {{ margin: 0; padding: 16px; border-radius: 6px; overflow-wrap: anywhere;
  border: 1px dashed var(--border-color-primary); }}
.demo-hint {{ opacity: 0.7; }}
.demo-sorry {{ border: 1px solid {WRONG}; border-left-width: 5px; }}
@media (max-width: 640px) {{
  .gradio-container {{ padding: 8px !important; }}
  .demo-answer table {{ font-size: 13px; }}
  .demo-answer th {{ padding-right: 0; }}
  .demo-boxes td, .demo-boxes thead th + th {{ padding-left: 7px; }}
  #demo-image {{ height: 250px !important; }}
  .demo-picture {{ max-height: none; }}
}}
"""
