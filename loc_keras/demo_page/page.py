"""The page, made of Gradio's parts; an answer about an uploaded file as HTML, names escaped.

Of the package this module alone uses Gradio, which is imported when the page is built.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from loc_keras._environ import LateModule
from loc_keras.demo_page.guard import MEGABYTE, Limits, is_within
from loc_keras.errors import ImageError
from loc_keras.localizer.localizer import Localizer
from loc_keras.localizer.results import Localization
from loc_keras.report import html
from loc_keras.report.image_boxes import encoded
from loc_keras.training.run_folder import EXAMPLES

NOTHING_SENT = "Drop an image here, or take one with the camera."
GONE = "This image is no longer held; send it again."
FAULT = "This image could not be answered by a fault of ours; the terminal has its details."

_SHOWN_SIDE = 1600  # Px of the longer side of the picture that is sent back.

Box = Sequence[float]

gr: Any = LateModule("gradio")


@dataclass(frozen=True)
class Answered:
    """An answer, and pictures, RGB, at most `_SHOWN_SIDE` px a side.

    `picture` has the boxes; `explained`, where the model allows it, also what they were read from.
    """

    result: Localization
    picture: Image.Image
    explained: Image.Image | None = None


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
    pictures = [localizer.annotate(content, result)]
    if localizer.explains:
        pictures.append(localizer.explain(content))
    for picture in pictures:
        picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return Answered(result, *pictures)


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
    explained = None if answer.explained is None else encoded(answer.explained)
    said = percent, list(facts(result)), box_rows(result)
    return part("answer", result, picture, *said, explained)


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


# Fonts of the machine: Gradio's usual ones would be asked of another host.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]

_OLD_SECONDS = 600
_EXAMPLE_WIDTH = 80  # Px, so that three stand side by side on a phone.
_LEAST_WIDTH = 320  # Px of a column; on a phone the two stand one below the other.


def build_page(localizer: Localizer, model: Path, limits: Limits, top_k: int) -> Any:
    """The page about what `model` names, as Gradio's `Blocks`; an answer holds `top_k` classes."""

    def html_of(file: Path | None) -> str:
        return answer_html(answer(localizer, file, limits.file_bytes, top_k))

    def record_of(file: Path | None) -> dict[str, Any]:
        told = answer(localizer, file, limits.file_bytes, top_k)
        return {"reason": told} if isinstance(told, str) else told.result.as_dict()

    with gr.Blocks(
        title="loc_keras", analytics_enabled=False, delete_cache=(60, _OLD_SECONDS)
    ) as page:
        gr.HTML(_heading(localizer, model), elem_classes="demo-head", apply_default_css=False)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=_LEAST_WIDTH):
                field = _image_field()
                examples = examples_of(model)
                with gr.Row():
                    buttons = [
                        gr.Button(
                            f"Example {number}",
                            size="sm",
                            min_width=_EXAMPLE_WIDTH,
                            elem_classes="demo-example",
                        )
                        for number in range(1, len(examples) + 1)
                    ]
            with gr.Column(min_width=_LEAST_WIDTH):
                hint = answer_html(NOTHING_SENT)
                output = gr.HTML(hint, elem_id="demo-output", apply_default_css=False)
        # One at a time: an answer takes all cores, and a large photograph much memory.
        one_by_one = {"concurrency_limit": 1, "concurrency_id": "answers"}
        field.change(
            html_of, field, output, api_visibility="private", show_progress="minimal", **one_by_one
        )
        for button, file in zip(buttons, examples, strict=True):
            button.click(
                partial(html_of, file), None, output, api_visibility="private", **one_by_one
            )
        # For programs alone: `gradio_client` finds it by its name.
        gr.Button(visible=False).click(
            record_of, field, gr.JSON(visible=False), api_name="predict", **one_by_one
        )
    page.queue(max_size=limits.waiting, api_open=False)
    return page


def application(page: Any, limits: Limits) -> Any:
    """The page as an ASGI application."""
    from fastapi import FastAPI

    outside = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app = gr.mount_gradio_app(
        outside,
        page,
        path="/",
        theme=gr.themes.Default(font=_FONTS, font_mono=_MONO),
        css=html.render("demo.css"),
        max_file_size=limits.file_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    page.has_launched = True  # Else Gradio takes any file of the machine for one of the page's own.
    return app


def _heading(localizer: Localizer, model: Path) -> str:
    names = localizer.class_names
    shown_names = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")
    folder = model.absolute().parent if model.is_file() else model.absolute()
    return part("heading", folder.name, shown_names)


def _image_field() -> Any:
    """The field for an image, which hands on the very file that was sent.

    Gradio's own opens the file and may write it anew, so pixels would not be those of training and
    a broken file would raise unseen; and a request may name any path or address, which it would
    copy or fetch. The two methods are replaced in the object, since beside a module with a class of
    its own Gradio writes a file.
    """
    field = gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),
        buttons=[],
        label="Image",
        height=240,
        elem_id="demo-image",
    )
    folder, move = Path(field.GRADIO_CACHE), field.async_move_resource_to_block_cache

    def file_of(payload: Any) -> Path | None:
        return None if payload is None or payload.path is None else Path(payload.path)

    async def moved(path: Any) -> Any:
        if path is not None and not is_within(str(path), folder):
            raise gr.Error("Only an image that was sent here is looked at.", print_exception=False)
        return await move(path)

    field.preprocess = file_of
    field.async_move_resource_to_block_cache = moved
    return field
