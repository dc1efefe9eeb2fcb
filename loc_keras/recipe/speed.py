"""How long training takes, from the speeds in `docs/experiments.md`."""

from typing import NamedTuple

from loc_keras.recipe import numbers


class Cost(NamedTuple):
    """What decides how long an image takes.

    Attributes:
        side: Of the model's input in px.
        width: Of the body.
        batch: Images a step.
        halves: Whether the body computes in 16 bits.
        cores: CPU cores.
        gpu: Whether there is a GPU.
        avx512: Whether the CPU has 512-bit vectors, as the measured one had.
    """

    side: float
    width: int
    batch: int
    halves: bool = False
    cores: int = numbers.MEASURED_CORES
    gpu: bool = False
    avx512: bool = True


def images_a_second(cost: Cost) -> float:
    """Training images a second, validation included, about."""
    if cost.gpu:
        area = (cost.side / numbers.GPU_SIDE) ** 2 * (cost.width / 64)
        return min(numbers.GPU_MOST, numbers.GPU_IMAGES / area)
    seconds = numbers.HEAD_SECONDS + numbers.BODY_SECONDS * (cost.side / numbers.MEASURED_SIDE) ** 2
    seconds *= _near(numbers.WIDTH_FACTORS, cost.width)
    if not cost.halves:
        seconds *= _near(numbers.FLOAT32_FACTORS, cost.width)
    if not cost.avx512:
        seconds *= numbers.AVX2_FACTOR
    seconds *= next(factor for limit, factor in numbers.BATCH_FACTORS if cost.batch < limit)
    return min(cost.cores, numbers.MOST_CORES) / numbers.MEASURED_CORES / seconds


def _near(factors: dict[int, float], width: int) -> float:
    """The factor of the nearest width that was measured; beyond them it grows with the width."""
    nearest = min(factors, key=lambda one: abs(one - width))
    return factors[nearest] * (max(1.0, width / nearest))
