"""The errors that users read: each message is one sentence that says what to mend."""

from typing import ClassVar


class LocKerasError(Exception):
    """Base of every error caused by what a user gave: doors print its message, not a trace.

    Attributes:
        code: Exit code of a command that ends by it.
    """

    code: ClassVar[int] = 2


class ConfigError(LocKerasError):
    """A config file, a `--set` override or a combination of settings is wrong."""


class DataError(LocKerasError):
    """A data source is missing, malformed or cannot serve the task."""


class ImageError(DataError):
    """One image cannot be used.

    Args:
        image: What it is called, as the start of a sentence.
        reason: What is wrong, as the rest of it, without a full stop.
    """

    def __init__(self, image: str, reason: str) -> None:
        """Puts the sentence together."""
        super().__init__(f"{image} {reason}.")
        self.reason = reason


class ModelError(LocKerasError):
    """A model cannot be built from, loaded from, or applied to what was given."""


class TrainingError(LocKerasError):
    """Training had to stop, for example on a loss that is not finite."""


class WorkerLostError(TrainingError):
    """Another worker is gone: no mistake, and starting all of them again may help."""

    code = 75  # EX_TEMPFAIL of BSD's sysexits: a failure that passes.


class ExportError(LocKerasError):
    """A trained model could not be written for serving, or its copy disagrees with it."""


class TrustError(LocKerasError):
    """Calibration images are too few, or cannot bear the statement that was asked for."""


class DemoError(LocKerasError):
    """The page to try a model on cannot be shown."""


class ServingError(LocKerasError):
    """A model server could not be asked, refused a request, or gave an answer of no use."""


class ServerUnavailableError(ServingError):
    """A model server cannot be reached or says that it is not ready: asking later may help."""


class ClusterError(LocKerasError):
    """A pipeline on a cluster cannot be started, or did not end well."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to stop, and it stopped where nothing is lost.

    Args:
        message: What became of the work, and how it goes on.
        signal: Its number; 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str, signal: int) -> None:
        """Stores both."""
        super().__init__(message)
        self.signal = signal


def counted(count: int, noun: str) -> str:
    """A count and its noun: "1 image", "1,200 images"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: list[str], noun: str, most: int = 3) -> str:
    """A count and the first few names: "5 tensors (a, b, c and 2 more)"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{counted(len(names), noun)} ({', '.join(names[:most])}{more})"


def first_line(error: BaseException, most: int = 120) -> str:
    """What an error of another package says, in so few letters that it fits into a sentence."""
    said = getattr(error, "strerror", None) or str(error)  # Of the system, without number and file.
    lines = said.strip().splitlines()
    line = lines[0].rstrip(".") if lines else type(error).__name__
    return line if len(line) <= most else f"{line[:most]}..."


LONGEST = 300


def one_line(said: object) -> str:
    """A message on one line, without its last full stop, of at most `LONGEST` characters."""
    text = " ".join(str(said).split()).rstrip(".")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def clean(text: str, longest: int = 200) -> str:
    """One line of printable text: other characters are written as Python escapes them."""
    shown = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
