"""Where the first weights of a body come from: told to the user, kept in the model card."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsOrigin:
    """Source and licence of weights that a body starts from.

    Attributes:
        body: name of the body, as `model.backbone.name` has it.
        weights: what the user asked for: "none", "imagenet", a file or a run.
        source: who made the weights and where they were taken from, in words.
        licence: SPDX name of their licence, or "unknown" where nothing says it.
        sha256: of the file they were read from, in hex; None where there is no one file.
    """

    body: str
    weights: str
    source: str
    licence: str
    sha256: str | None = None


def random_weights(body: str) -> WeightsOrigin:
    """The origin of a body that starts from random weights: nobody's."""
    return WeightsOrigin(body, "none", "random weights of this training", "none needed")
