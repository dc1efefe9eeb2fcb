"""Finding pictures again that were seen in training."""

from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.duplicates import near_duplicates


def picture(
    path: Path, seed: int, *, side: int = 96, quality: int = 95, light: float = 1
) -> ImageRef:
    """Coarse random colours, smoothly enlarged, as a photograph of that many parts."""
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 7, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    image = image.point(lambda value: int(value * light))
    image.save(path, quality=quality)
    return ImageRef(str(path))


def test_copies_are_found_whatever_their_size_and_quality(tmp_path: Path) -> None:
    train = [picture(tmp_path / f"train{seed}.jpg", seed) for seed in range(12)]
    wanted = [
        picture(tmp_path / "smaller.jpg", 3, side=60),
        picture(tmp_path / "worse.jpg", 7, quality=30),
        picture(tmp_path / "darker.png", 5, light=0.8),
        picture(tmp_path / "new.jpg", 99),
    ]
    assert near_duplicates(wanted, train) == [[3], [7], [5], []]


def test_most_alike_comes_first_and_three_at_most(tmp_path: Path) -> None:
    train = [
        picture(tmp_path / f"{n}.jpg", 1, quality=q) for n, q in enumerate([20, 95, 90, 85, 80])
    ]
    (found,) = near_duplicates([picture(tmp_path / "one.jpg", 1)], train)
    assert len(found) == 3
    assert set(found) <= set(range(5))


def test_plain_and_broken_pictures_are_like_none(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (10, 200, 10)).save(tmp_path / "plain.png")
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    refs = [ImageRef(str(tmp_path / name)) for name in ("plain.png", "broken.jpg")]
    assert near_duplicates(refs, refs) == [[], []]


def test_only_so_many_are_searched(tmp_path: Path) -> None:
    train = [picture(tmp_path / f"{seed}.jpg", seed) for seed in range(4)]
    assert near_duplicates([train[3]], train, most=3) == [[]]
    assert near_duplicates([], train) == []
