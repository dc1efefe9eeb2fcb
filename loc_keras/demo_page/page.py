"""What the page shows: the answer about an uploaded file as HTML, in which names are escaped."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

_SHOWN_SIDE = 1600  # Px of the longer side of the picture that is sent back.
_SIDES = ("x1", "y1", "x2", "y2")

Box = Sequence[float]


@dataclass(frozen=True)
class Answered:
    """An answer as it is shown.

    Attributes:
        result: The answer of the model.
        picture: RGB, with the boxes drawn, at most `_SHOWN_SIDE` px a side.
    """

    result: Localization
    picture: Image.Image


def answer(localizer: Localizer, file: Path | None, file_bytes: int, top_k: int) -> Answered | str:
    """Answers about an uploaded file.

    Args:
        localizer: The model.
        file: What was sent; None where nothing was.
        file_bytes: Largest file that is read.
        top_k: How many classes the answer holds.

    Returns:
        The answer, or a sentence that says why there is none. Nothing that was sent raises.
    """
    if file is None:
        return NOTHING_SENT
    try:
        size = file.stat().st_size
        if size > file_bytes:
            most = f"{file_bytes / MEGABYTE:g} MB"
            return f"{file.name} has {size / MEGABYTE:,.1f} MB; at most {most} are taken."
        return answer_content(localizer, file.read_bytes(), top_k)
    except FileNotFoundError:
        return GONE
    except ImageError as error:
        return f"{file.name} {error.reason}."
    except Exception:  # A visitor sees a sentence, whatever it is.
        logging.getLogger(__name__).exception("no answer about %s", file.name)
        return FAULT


def answer_content(localizer: Localizer, content: bytes, top_k: int) -> Answered:
    """Answers about the bytes of a file.

    Raises:
        ImageError: If they cannot be read.
    """
    # As bytes it is read once, and gives what the file gives.
    result = localizer.predict(content, top_k=top_k)
    picture = localizer.annotate(content, result)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return Answered(result, picture)


def warm(localizer: Localizer, top_k: int) -> None:
    """Answers once about a grey picture, so that all that is compiled at a first call is there."""
    height, width = localizer.form.size
    grey = io.BytesIO()
    Image.new("RGB", (2 * width, 2 * height), (128, 128, 128)).save(grey, "PNG")
    encoded(answer_content(localizer, grey.getvalue(), top_k).picture)


def answer_html(answer: Answered | str) -> str:
    """HTML of an answer, or of the sentence in its place."""
    if isinstance(answer, str):
        kind = "demo-hint" if answer == NOTHING_SENT else "demo-sorry"
        return f'<p class="{kind}" role="status">{safe(answer)}</p>'
    result = answer.result
    uri, (width, height) = encoded(answer.picture)
    words = safe(f"{result.label}, {percent(result.score)}")
    parts = [
        f'<img class="demo-picture" src="{uri}" width="{width}" height="{height}" alt="{words}">',
        f'<h2 class="demo-label"><span>{safe(result.label)}</span> '
        f"<b>{percent(result.score)}</b></h2>",
        *(f'<p class="demo-fact">{safe(fact)}</p>' for fact in facts(result)),
        _classes(result),
        _boxes(result),
    ]
    return f'<div class="demo-answer">{"".join(parts)}</div>'


def percent(fraction: float) -> str:
    """A probability in percent; one that is not 1 is never written as 100 %."""
    text = f"{100 * fraction:.1f}"
    if text == "100.0" and fraction < 1:
        return "> 99.9 %"
    return f"{text} %"


def facts(result: Localization) -> Iterator[str]:
    """Sentences: that nothing was found, and what trust says."""
    if not result.found:
        yield "No object is found, so there is no box."
    if result.p_iou50 is not None:
        chance = percent(result.p_iou50)
        yield f"The box is right (IoU at least 0.5) with a probability of {chance}."
    if result.label_set is not None:
        yield f"Classes that cannot be ruled out: {', '.join(result.label_set) or 'none'}."


def box_rows(result: Localization) -> list[tuple[str, str, Box]]:
    """Boxes that there are: how each is drawn, what it is, and its corners in px."""
    rows = (
        ("box", "box", result.box),
        ("outer", "outer, holds the object", result.box_outer),
        ("inner", "inner, lies within it", result.box_inner),
    )
    return [(kind, name, box) for kind, name, box in rows if box is not None]


def _classes(result: Localization) -> str:
    rows = "".join(
        f"<tr><th>{safe(one.label, 80)}</th>"
        f'<td class="demo-bar"><i style="width:{100 * one.score:.1f}%"></i></td>'
        f"<td>{percent(one.score)}</td></tr>"
        for one in result.top_k
    )
    return f'<table class="demo-classes"><tbody>{rows}</tbody></table>'


def _boxes(result: Localization) -> str:
    height, width = result.size
    rows = "".join(
        f'<tr class="demo-{kind}"><th><i></i>{name}</th>'
        + "".join(f"<td>{side:.1f}</td>" for side in box)
        + "</tr>"
        for kind, name, box in box_rows(result)
    )
    size = f"{width} x {height} px"
    if not rows:
        return f'<p class="demo-size">{size}</p>'
    heads = "".join(f"<th>{side}</th>" for side in _SIDES)
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
