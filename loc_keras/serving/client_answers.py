"""What a served model says of one image, typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loc_keras.errors import ServingError

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), x to the right and y down."""


@dataclass(frozen=True)
class ServedAnswer:
    """The answer for one image. Where it could not be read, only `ok` and `reason` say something.

    Attributes:
        ok: Whether the image was read.
        reason: Why not; empty where it was.
        label: Name of the most probable class.
        class_id: Its index.
        score: Its probability.
        probabilities: Probability of each class.
        box_px: Box in pixels of the image as it was sent, upright.
        box_fraction: The same in fractions of its sides.
        p_iou50: Probability that the box has an IoU of at least .5 with the true one; None, like
            the following, where no trust was fitted to the model.
        box_outer_px: Box that holds the true one with the promised probability.
        box_inner_px: Box that lies in the true one with it; all zero where it is empty.
        label_set: For each class, whether it is one of those of which the true one is one with it.
        outputs: All outputs of the server for this image, by name.
    """

    ok: bool
    reason: str = ""
    label: str | None = None
    class_id: int | None = None
    score: float | None = None
    probabilities: tuple[float, ...] = ()
    box_px: Box | None = None
    box_fraction: Box | None = None
    p_iou50: float | None = None
    box_outer_px: Box | None = None
    box_inner_px: Box | None = None
    label_set: tuple[bool, ...] | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)


def answer_of(row: Mapping[str, Any]) -> ServedAnswer:
    """Types the outputs for one image.

    Args:
        row: Outputs of `serving_default`, `image_bytes` or `tf_example` for one image, by name.

    Raises:
        ServingError: If one is missing or of another type.
    """
    if not _taken(row, "ok", bool):
        return ServedAnswer(ok=False, reason=_taken(row, "reason", str), outputs=row)
    return ServedAnswer(
        ok=True,
        label=_taken(row, "label", str),
        class_id=_taken(row, "class_id", int),
        score=_taken(row, "score", float),
        probabilities=_taken(row, "probabilities", _floats),
        box_px=_taken(row, "box", _box),
        box_fraction=_taken(row, "box_fraction", _box),
        p_iou50=_taken(row, "p_iou50", float) if "p_iou50" in row else None,
        box_outer_px=_taken(row, "box_outer", _box) if "box_outer" in row else None,
        box_inner_px=_taken(row, "box_inner", _box) if "box_inner" in row else None,
        label_set=_taken(row, "label_set", _bools) if "label_set" in row else None,
        outputs=row,
    )


def _taken(row: Mapping[str, Any], name: str, make: Any) -> Any:
    """The output `name` as `make` gives it."""
    if name not in row:
        raise ServingError(
            f"the served model has no output {name!r} but {', '.join(sorted(row)) or 'none'}; "
            "choose a signature that takes encoded images, such as serving_default."
        )
    try:
        return make(row[name])
    except (TypeError, ValueError) as error:
        raise ServingError(
            f"the served model gave output {name!r} as {row[name]!r:.80}."
        ) from error


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _bools(values: Any) -> tuple[bool, ...]:
    return tuple(bool(value) for value in values)


def _box(values: Any) -> Box:
    x1, y1, x2, y2 = _floats(values)
    return x1, y1, x2, y2
