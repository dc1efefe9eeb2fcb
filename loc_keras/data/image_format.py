"""What every image of a data set becomes."""

from dataclasses import dataclass

from loc_keras.data.resize import ResizeRule


@dataclass(frozen=True)
class ImageFormat:
    """The common format of the pictures that a model sees.

    Attributes:
        size: Height and width in pixels.
        channels: 1 or 3.
        rule: `"stretch"` or `"letterbox"`; None takes no image of another size.
        fast: Whether JPEG pictures are decoded as small as the target allows, at some cost in
            sharpness: `image_ratio`.
    """

    size: tuple[int, int]
    channels: int
    rule: ResizeRule | None
    fast: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (*self.size, self.channels)

    @property
    def rule_in_use(self) -> ResizeRule:
        """The rule for pictures that users bring, also where training takes one size alone."""
        return self.rule or "stretch"
