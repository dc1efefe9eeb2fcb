"""The folder of answers: its journals, and what they were made with."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loc_keras.atomic_file import write_text
from loc_keras.bulk.journal import Journal
from loc_keras.bulk.names import image_name
from loc_keras.errors import DataError

ANSWERS_FILE, FAILURES_FILE, MADE_FILE = "predictions.jsonl", "failures.jsonl", "predict.json"


@dataclass(frozen=True)
class Made:
    """What answers were made with; all in a folder were made with the same.

    Attributes:
        model: Digest of the model.
        top_k: Classes that are told of each image.
        root: Folder that names of images are relative to.
    """

    model: str
    top_k: int
    root: str


class OutFolder:
    """Answers and failures of a folder, opened to go on.

    Args:
        folder: Made where it is not there.
        made: What answers will be made with.

    Attributes:
        folder: The folder.
        root: Folder that names of images are relative to, as it was the first time.
        answers: A line for each image that was answered about.
        failures: A line for each that could not be read.

    Raises:
        DataError: If there are answers of another model, or another process is at work.
    """

    def __init__(self, folder: Path, made: Made) -> None:
        """Opens it; see the class."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"--out {folder} cannot be made a folder ({error.strerror}); give another one."
            ) from error
        before = _read_made(folder)
        if before is not None and (before.model, before.top_k) != (made.model, made.top_k):
            other = "model" if before.model != made.model else "--top-k"
            raise DataError(
                f"{folder} holds answers made with another {other}; give another folder to --out."
            )
        self.answers = Journal(folder / ANSWERS_FILE)
        if not self.answers.lock():
            raise DataError(f"another process is writing to {folder}; wait until it has ended.")
        self.failures = Journal(folder / FAILURES_FILE)
        self.root = made.root if before is None else before.root
        if before is None:
            write_text(folder / MADE_FILE, json.dumps(asdict(made), indent=1) + "\n")

    @property
    def torn(self) -> bool:
        """Whether a line was cut off that an earlier process could not finish."""
        return bool(self.answers.torn or self.failures.torn)

    def name_of(self, path: str) -> str:
        """Name of an image: its path relative to the root, or from / on where it lies elsewhere."""
        return image_name(path, self.root)

    def close(self) -> None:
        """Closes the journals."""
        self.answers.close()
        self.failures.close()


def _read_made(folder: Path) -> Made | None:
    path = folder / MADE_FILE
    if not path.is_file():
        if (folder / ANSWERS_FILE).exists():
            raise DataError(
                f"{folder} holds {ANSWERS_FILE} but no {MADE_FILE}, which tells the model that "
                "answered; give another folder to --out."
            )
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if "runner" in told:
            raise DataError(
                f"{folder} holds answers from a runner, which are not continued; give another "
                "folder to --out."
            )
        return Made(**told)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged; give another folder to --out.") from error
