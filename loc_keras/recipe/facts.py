"""What is known of a data set and a device, and what is chosen for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Facts:
    """What is known before training.

    Attributes:
        images: Pictures that training may use, before missing splits are cut off; at least 1.
        given: Splits beside train that the data give, with their pictures.
        classes: Pictures of each class by its name, in train.
        side: Median of the pictures' sides in px (the root of their area).
        spread: 90th percentile of width by height divided by the 10th, at least 1.
        object_side: Median side of the boxes in fractions of the picture (the root of their
            share of the area).
        small_side: 10th percentile of the boxes' shorter side, likewise.
        grey: Whether all pictures are grey.
        several: Images that show several objects.
        annotated: Images with any object.
        policy: What is done with images of several objects: `"skip"`, `"crop"`, ...
        cores: CPU cores.
        gpus: Names of the GPUs.
        bfloat16: Whether the CPU has units for bfloat16.
        avx512: Whether the CPU has 512-bit vectors; True where the system does not say.
        weights: Pretrained weights that were asked for, or None.
        body: `name`, `width` and `stem` of the body that the weights are of, where they say so.
    """

    images: int
    classes: Mapping[str, int]
    side: float
    spread: float = 1.0
    object_side: float = 0.5
    small_side: float = 0.25
    grey: bool = False
    given: Mapping[str, int] = field(default_factory=dict)
    several: int = 0
    annotated: int = 0
    policy: str = "skip"
    cores: int = 2
    gpus: tuple[str, ...] = ()
    bfloat16: bool = False
    avx512: bool = True
    weights: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """`"gpu"` or `"cpu"`."""
        return "gpu" if self.gpus else "cpu"

    @property
    def pretrained(self) -> bool:
        """Whether training starts from given weights."""
        return self.weights not in (None, "none")


class Choice(NamedTuple):
    """One setting: its key in the config, its value, and why."""

    key: str
    value: Any
    why: str
