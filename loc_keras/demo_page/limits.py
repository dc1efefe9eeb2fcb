"""How much the page takes at once, so that no visitor exhausts memory, disk or patience."""

from dataclasses import dataclass

MEGABYTE = 2**20
"""Bytes of what the page and the browser call MB."""

_ENVELOPE = 65_536
_QUESTION = 65_536


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        file_bytes: Largest file.
        uploads: Uploads that may arrive at the same time.
        waiting: Images that may wait for their answer; answers are made one by one.
        kept: Uploads that stay on disk, the newest; more than may wait, since a page shows its own.
    """

    file_bytes: int
    uploads: int = 4
    waiting: int = 16
    kept: int = 32

    @property
    def upload_bytes(self) -> int:
        """Largest body of an upload: one file and the form around it."""
        return self.file_bytes + _ENVELOPE

    @property
    def question_bytes(self) -> int:
        """Largest body of any other request: it names an upload."""
        return _QUESTION
