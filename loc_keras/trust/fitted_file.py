"""Files of what was fitted to a model and stands beside it: JSON that names the model's digest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from loc_keras.atomic_file import file_sha256, write_text
from loc_keras.errors import TrustError

Fitted = TypeVar("Fitted")


def write_fitted(
    path: Path, content: Fitted, adapter: TypeAdapter[Fitted], indent: int | None = 1
) -> None:
    """Writes as JSON what was fitted to a model, whole or not at all; None for one line."""
    write_text(path, json.dumps(adapter.dump_python(content, mode="json"), indent=indent) + "\n")


def read_fitted(
    path: Path,
    model_path: Path,
    adapter: TypeAdapter[Fitted],
    version: int,
    digest_of: Callable[[Fitted], str],
) -> Fitted | None:
    """Reads a file of what was fitted to the model that it stands beside; None where there is none.

    `version` is of the form that is known, `digest_of` gives the SHA-256 of the model that a
    content belongs to.

    Raises:
        TrustError: If it is damaged, of another version, or of another model.
    """
    if not path.is_file():
        return None
    again = "run python -m loc_keras.calibrate again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("version") if isinstance(content, dict) else None
        if found != version:
            raise TrustError(f"{path} is of version {found}, not {version}; {again}.")
        fitted = adapter.validate_python(content)
    except (ValueError, RecursionError) as error:  # Of JSON, UTF-8 and pydantic.
        raise TrustError(
            f"{path} is damaged ({_first_fault(error)}); move it away and {again}."
        ) from error
    if digest_of(fitted) != file_sha256(model_path):
        raise TrustError(
            f"{path} was fitted to another model than {model_path}, whose file has changed since; "
            f"{again}."
        )
    return fitted


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
