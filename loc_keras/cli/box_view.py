"""The stop where nothing says on which view of turned pictures their boxes were drawn."""

from pathlib import Path

from loc_keras.data.box_view import UNDECIDED, VIEWS, View, view_samples
from loc_keras.data.check.run import CheckResult
from loc_keras.data.resolve import checked_objects
from loc_keras.errors import DataError, first_line
from loc_keras.report.thumbnails import save_box_views

VIEWS_FILE = "boxes_on.png"
"""Some pictures with their boxes in both readings."""

_SAMPLES = 2


class UndecidedViewError(DataError):
    """Only the user can say on which view boxes were drawn."""


def likelier_view(result: CheckResult) -> View:
    """The view in which more boxes of a check can be used, `"stored"` of equal ones."""
    headers = {image: facts.opened for image, facts in result.images.items()}

    def refused(view: View) -> int:
        source = result.source.model_copy(update={"boxes_on": view})
        objects = checked_objects(result.annotations, headers, source)
        return sum(item.fault is not None for item in objects)

    return min(VIEWS, key=refused)


def require_view(result: CheckResult, folder: Path = Path()) -> None:
    """Stops where a check could not settle `boxes_on`, and shows both readings.

    Args:
        result: Of the check.
        folder: Where `VIEWS_FILE` is written; by default the current one.

    Raises:
        UndecidedViewError: With the key to set and the file to look at.
    """
    if result.source.boxes_on is not None:
        return
    reason = next(one.reason for one in result.findings if one.kind == UNDECIDED)
    samples = view_samples(result.objects, result.annotations, result.source, _SAMPLES)
    path = (folder / VIEWS_FILE).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_box_views(path, samples)
        shown = f"{path} shows both readings: "
    except OSError as error:
        shown = f"{path}, which would show both readings, cannot be written ({first_line(error)}): "
    raise UndecidedViewError(
        f"{reason}; {shown}set data.source.boxes_on to the one whose boxes lie on the objects, "
        "--set data.source.boxes_on=upright or stored."
    )
