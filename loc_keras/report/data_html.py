"""What the page of a data set has beyond other pages: how grave a finding is, as a colour."""

from loc_keras.report.style import MUTED, WRONG_INK

_SEVERITY_COLOURS = {"error": WRONG_INK, "warning": "#7A5C00", "note": MUTED}
_SEVERITY_PAPERS = {"error": "#FBE9DF", "warning": "#FBF3CF", "note": "#EEEEEE"}

CSS = (
    "\n.chip { border-radius: 3px; padding: 1px 7px; font-size: 12px; white-space: nowrap; }\n"
) + "".join(
    f".chip.{name} {{ color: {colour}; background: {_SEVERITY_PAPERS[name]}; }}\n"
    for name, colour in _SEVERITY_COLOURS.items()
)


def chip(severity: str) -> str:
    """A severity as a coloured word."""
    return f'<span class="chip {severity}">{severity}</span>'
