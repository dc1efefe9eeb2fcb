"""The page, made of Gradio's parts; the one module that imports Gradio."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from loc_keras.demo_page.guard import Limits, is_within
from loc_keras.demo_page.page import NOTHING_SENT, answer, answer_html, examples_of, part
from loc_keras.localizer import Localizer
from loc_keras.report import html

# Fonts of the machine: Gradio's usual ones would be asked of another host.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]

_OLD_SECONDS = 600
_EXAMPLE_WIDTH = 80  # Px, so that three stand side by side on a phone.
_LEAST_WIDTH = 320  # Px of a column; on a phone the two stand one below the other.


def build_page(localizer: Localizer, limits: Limits, top_k: int) -> Any:
    """The page about a model, as Gradio's `Blocks`; an answer holds `top_k` classes."""

    def html_of(file: Path | None) -> str:
        return answer_html(answer(localizer, file, limits.file_bytes, top_k))

    def record_of(file: Path | None) -> dict[str, Any]:
        told = answer(localizer, file, limits.file_bytes, top_k)
        return {"reason": told} if isinstance(told, str) else told.result.as_dict()

    with gr.Blocks(
        title="loc_keras", analytics_enabled=False, delete_cache=(60, _OLD_SECONDS)
    ) as page:
        gr.HTML(_heading(localizer), elem_classes="demo-head", apply_default_css=False)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=_LEAST_WIDTH):
                field = _image_field()
                examples = examples_of(localizer.path)
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


def _heading(localizer: Localizer) -> str:
    names = localizer.class_names
    shown_names = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")
    model = localizer.path.parent.name if localizer.path.is_file() else localizer.path.name
    return part("heading", model, shown_names)


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
