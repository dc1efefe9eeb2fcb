"""What the page shows: the answer about an uploaded file as HTML, in which names are escaped."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loc_keras.demo_page.guard import MEGABYTE
from loc_keras.errors import ImageError
from loc_keras.localizer import Localization, Localizer
from loc_keras.report import html
from loc_keras.report.thumbnails import encoded
from loc_keras.training.run_folder import EXAMPLES

NOTHING_SENT = "Drop an image here, or take one with the camera."
GONE = "This image is no longer held; send it again."
FAULT = "This image could not be answered by a fault of ours; the terminal has its details."

_SHOWN_SIDE = 1600  # Px of the longer side of the picture that is sent back.

Box = Sequence[float]


@dataclass(frozen=True)
class Answered:
    """An answer, and the picture with its boxes drawn: RGB, at most `_SHOWN_SIDE` px a side."""

    result: Localization
    picture: Image.Image


def answer(localizer: Localizer, file: Path | None, file_bytes: int, top_k: int) -> Answered | str:
    """The answer about an uploaded file, or a sentence that says why there is none.

    A file of more than `file_bytes` is not read; without a file None is given. Nothing that was
    sent raises.
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
    """Answers about the bytes of a file; ImageError if they cannot be read."""
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
        kind = "hint" if answer == NOTHING_SENT else "sorry"
        return part("sentence", answer, kind)
    result, picture = answer.result, encoded(answer.picture)
    return part("answer", result, picture, percent, list(facts(result)), box_rows(result))


def examples_of(model: Path) -> list[Path]:
    """Pictures that a run keeps for the page; none for a model without."""
    folder = model.parent if model.is_file() else model
    return sorted((folder / EXAMPLES).glob("*.png"))


def part(macro: str, *arguments: Any) -> str:
    """One of the parts in `demo.html.j2`, as a plain `str`, which is what Gradio knows."""
    return str(html.part(macro, *arguments, of="demo.html.j2"))


def percent(fraction: float) -> str:
    """A probability in percent; one that is not 1 is never written as 100 %."""
    text = f"{100 * fraction:.1f}"
    if text == "100.0" and fraction < 1:
        return "> 99.9 %"
    return f"{text} %"


def facts(result: Localization) -> Iterator[str]:
    """Sentences: what novelty and trust say and, where there is none, what is not known."""
    if result.known is False:
        yield "This picture is unlike those the model was trained on: do not rely on the answer."
    if result.novelty is not None:
        share = percent(result.novelty)
        yield f"Of pictures like those of training, {share} are as unusual as this one."
    else:
        yield "Whether this picture is like those of training is not known."
    if not result.found:
        yield "No object is found, so there is no box."
    elif result.p_iou50 is None:
        yield "How sure the box is, is not known: no trust was fitted to this model."
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
