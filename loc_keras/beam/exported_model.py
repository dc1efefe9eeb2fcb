"""Looks at an exported version before it is sent to workers: is it one, and what does it know."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from loc_keras.beam.worker_handler import INPUT, SIGNATURE
from loc_keras.beam.worker_model import local_copy
from loc_keras.beam.worker_records import NEEDED
from loc_keras.errors import ModelError
from loc_keras.localizer.exported import GRAPH_FILE, exported_settings, version_folder
from loc_keras.localizer.opening import BEST_FILE, digest_of

_HOW = "python -m loc_keras.export --run {run} --out saved_models/NAME"


@dataclass(frozen=True)
class ExportedModel:
    """What is known of a version.

    Attributes:
        place: Folder or URL that workers open.
        names: Of the classes, by index.
        background: Index of the class of images without an object; None without one.
        digest: SHA-256 of it and all that its answers depend on, as `Localizer.digest`.
    """

    place: str
    names: tuple[str, ...]
    background: int | None
    digest: str


def exported_model(given: str) -> ExportedModel:
    """Looks at an export.

    Args:
        given: A version's folder, one that holds versions, or the URL of a version.

    Raises:
        ModelError: If it is none, or an old one that does not tell all that records hold.
    """
    if "://" in given:
        folder = Path(local_copy(given))
        if not (folder / GRAPH_FILE).is_file():
            raise ModelError(f"{given} holds no {GRAPH_FILE}; give the URL of an exported version.")
        return _looked_at(folder, given.rstrip("/"), given)
    folder = _local_version(Path(given))
    return _looked_at(folder, str(folder.absolute()), given)


def _local_version(path: Path) -> Path:
    run = path if path.is_dir() else path.parent
    if path.is_file() or (path / BEST_FILE).is_file():
        raise ModelError(
            f"{path} is not an exported model, which the workers of a runner need: export it by "
            f"`{_HOW.format(run=run)}` and give --model saved_models/NAME."
        )
    version = version_folder(path) if path.is_dir() else None
    if version is None:
        raise ModelError(
            f"{path} holds no exported version; make one by `{_HOW.format(run='RUN')}`."
        )
    return version


def _looked_at(folder: Path, place: str, given: str) -> ExportedModel:
    missing = sorted(NEEDED - _outputs(folder, given))
    settings, _ = exported_settings(folder)
    names = settings.class_names
    if missing or names is None:
        what = ", ".join(missing) or "the names of its classes"
        raise ModelError(
            f"{given} does not tell {what}, as versions exported today do; export its run anew by "
            f"`{_HOW.format(run='RUN')}`."
        )
    files = [folder / GRAPH_FILE, *sorted((folder / "variables").glob("*"))]
    background = names.index(settings.background) if settings.background in names else None
    return ExportedModel(place, names, background, digest_of(files, settings))


def _outputs(folder: Path, given: str) -> set[str]:
    """Names of what the signature of encoded images gives; empty without such a one."""
    try:
        parsed = saved_model_pb2.SavedModel.FromString((folder / GRAPH_FILE).read_bytes())
    except DecodeError as error:
        raise ModelError(f"{given} cannot be opened as a SavedModel ({error}).") from error
    signatures = [meta.signature_def[SIGNATURE] for meta in parsed.meta_graphs]
    return {name for one in signatures if set(one.inputs) == {INPUT} for name in one.outputs}
