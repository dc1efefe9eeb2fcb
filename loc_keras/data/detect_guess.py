"""What detection says of a folder: one possible reading of it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Guess:
    """One way to read a folder, as settings of the config's `data.source`.

    Attributes:
        format: A key of `readers.registry.READERS`.
        path: Folder that its reader takes.
        options: Settings of the format's own section, only those that differ from its defaults.
        source: Further settings of `data.source`.
        why: What in the folder speaks for it, as the end of a sentence.
        notes: Sentences that the user should know.
    """

    format: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    notes: tuple[str, ...] = ()
