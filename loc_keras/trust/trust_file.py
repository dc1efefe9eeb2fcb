"""`trust.json`: all that was fitted on the calibration images, beside the model it belongs to."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loc_keras.atomic_file import write_text
from loc_keras.errors import TrustError
from loc_keras.trust.shift import ShiftReference
from loc_keras.trust.statements import Statements

TRUST_FILE = "trust.json"
VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """On what trust was fitted.

    Attributes:
        split: Name of the split.
        images: Its images.
        object_images: Those that show an object, on which everything about boxes rests.
        data_fingerprint: SHA-256 of the data and their splits, in hex.
        model_sha256: Of the model's file.
        coverage: Asked share.
    """

    split: str
    images: int
    object_images: int
    data_fingerprint: str
    model_sha256: str
    coverage: float


@dataclass(frozen=True)
class Trust:
    """The content of the file.

    Attributes:
        version: Of its form.
        calibration: On what it was fitted.
        statements: What is said of answers.
        shift: Statistics of the calibration images, with which new ones are compared.
    """

    version: int
    calibration: Calibration
    statements: Statements
    shift: ShiftReference


_ADAPTER: TypeAdapter[Trust] = TypeAdapter(Trust)
_STATEMENTS: TypeAdapter[Statements] = TypeAdapter(Statements)


def write_trust(path: Path, trust: Trust) -> None:
    """Writes the file whole or not at all."""
    write_text(path, json.dumps(_ADAPTER.dump_python(trust, mode="json"), indent=1) + "\n")


def read_trust(path: Path, model_path: Path) -> Trust | None:
    """Reads the file that stands beside a model.

    Args:
        path: Of the file.
        model_path: The model, which must be the one that was calibrated.

    Returns:
        None where there is no such file.

    Raises:
        TrustError: If it is damaged, of another version, or of another model.
    """
    if not path.is_file():
        return None
    again = "run python -m loc_keras.calibrate again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise TrustError(f"{path} is of version {version}, not {VERSION}; {again}.")
        trust = _ADAPTER.validate_python(content)
    except (ValueError, UnicodeDecodeError, ValidationError) as error:
        raise TrustError(f"{path} is damaged ({_first_fault(error)}); {again}.") from error
    if trust.calibration.model_sha256 != model_digest(model_path):
        raise TrustError(
            f"{path} was fitted to another model than {model_path}, whose file has changed since; "
            f"{again}."
        )
    return trust


def statements_to_json(statements: Statements) -> dict[str, Any]:
    """Statements as values of JSON."""
    plain: dict[str, Any] = _STATEMENTS.dump_python(statements, mode="json")
    return plain


def statements_from_json(content: dict[str, Any]) -> Statements:
    """The inverse of `statements_to_json`."""
    return _STATEMENTS.validate_python(content)


def model_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
