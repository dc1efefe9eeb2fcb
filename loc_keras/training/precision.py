"""Numeric precision, determinism, and what is known of the device."""

import contextlib
import os
from pathlib import Path
from typing import Any

from loc_keras._environ import DRIVER, may_have_gpu, tf
from loc_keras.errors import TrainingError

BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY = (8, 0), (7, 0)
"""NVIDIA GPUs compute in these on tensor cores from this compute capability (Ampere, Volta) on."""

BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""What Linux calls the units of x86 processors that multiply in bfloat16."""

CPU_INFO = Path("/proc/cpuinfo")


def use_device(name: str | None) -> None:
    """Leaves the GPUs that are named to this process: cpu, gpu, or numbers such as `0,1`.

    It has to come before the first operation.

    Raises:
        TrainingError: If there is no such GPU, or devices were used already.
    """
    if name is None:
        return
    gpus = tf.config.list_physical_devices("GPU") if may_have_gpu() else []
    numbers = [part.strip() for part in name.split(",")]
    if name == "gpu":
        numbers = [str(number) for number in range(len(gpus))] or ["0"]
    if name == "cpu":
        numbers = []
    if not all(number.isdecimal() and int(number) < len(gpus) for number in numbers):
        known = f"cpu, gpu, or numbers below {len(gpus)}" if gpus else "cpu"
        raise TrainingError(
            f"--device {name}: TensorFlow finds {len(gpus)} GPUs here; name {known}."
        )
    if gpus:
        try:
            tf.config.set_visible_devices([gpus[int(number)] for number in numbers], "GPU")
        except RuntimeError:
            raise TrainingError(
                f"--device {name}: this process has computed already; start a new one."
            ) from None


def missing_gpu_note() -> str | None:
    """Says that there is a GPU which TensorFlow does not use; None where there is none."""
    if not DRIVER.exists() or tf.config.list_physical_devices("GPU"):
        return None
    return (
        f"{DRIVER} shows a driver of NVIDIA, but TensorFlow uses no GPU; its libraries come by "
        "python -m pip install 'tensorflow[and-cuda]', and TF_CPP_MIN_LOG_LEVEL=0 shows more."
    )


def visible_gpus() -> list[Any]:
    """The GPUs that this process uses."""
    found: list[Any] = tf.config.get_visible_devices("GPU") if may_have_gpu() else []
    return found


def grow_gpu_memory() -> None:
    """Lets GPUs take memory as needed; before the first operation, else the setting stays."""
    for gpu in visible_gpus():
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


def set_precision(precision: str, *, wide: bool = False) -> str:
    """Sets Keras's global dtype policy and gives its name.

    "auto" looks at the first GPU or, where there is none, at the processor, whose bfloat16 units
    pay for `wide` bodies alone.
    """
    if precision == "auto":
        capabilities = gpu_capabilities()
        cpu = pick_cpu_precision(cpu_flags(), wide=wide)
        precision = pick_precision(capabilities) if capabilities else cpu
    import keras

    keras.mixed_precision.set_global_policy(precision)
    return precision


def pick_precision(capabilities: list[tuple[int, int]]) -> str:
    """Names the fastest safe policy for GPUs of these compute capabilities.

    Without a GPU it is float32. The weakest GPU decides, since all of them run the same step.
    bfloat16 goes before float16 because its range needs no loss scaling.
    """
    if not capabilities:
        return "float32"
    weakest = min(capabilities)
    if weakest >= BFLOAT16_CAPABILITY:
        return "mixed_bfloat16"
    return "mixed_float16" if weakest >= FLOAT16_CAPABILITY else "float32"


def pick_cpu_precision(flags: frozenset[str], *, wide: bool) -> str:
    """Names the fastest safe policy for a processor with these feature flags.

    bfloat16 without units for it is several times slower than float32, and with them it gains
    nothing on narrow bodies (both in `docs/experiments.md`).
    """
    return "mixed_bfloat16" if wide and flags & BFLOAT16_FLAGS else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether the processor has units for bfloat16; False where the system does not say."""
    return bool(cpu_flags() & BFLOAT16_FLAGS)


def cpu_has_avx512() -> bool:
    """Whether the processor has 512-bit vectors; True where the system does not say."""
    flags = cpu_flags()
    return not flags or "avx512f" in flags


def cpu_flags() -> frozenset[str]:
    """Feature flags of the processor as Linux names them; none on other systems."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())


def gpu_capabilities() -> list[tuple[int, int]]:
    """Compute capability (major, minor) of each visible GPU; (0, 0) where it is not known."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in visible_gpus()]
    return [detail.get("compute_capability", (0, 0)) for detail in details]


def make_deterministic(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy, Keras and TensorFlow, and asks for ops that repeat to the bit."""
    import keras

    keras.utils.set_random_seed(seed)
    # Without one of its own TensorFlow would seed it from the clock at its first use.
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
        # Grappler's memory optimizer makes of a sum of three and more large gradients one variable
        # to which they are added in the order in which they are ready: equal to the bit only by
        # luck. It has no switch of its own.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def device_summary() -> dict[str, Any]:
    """What the run computes on: GPUs with their names, and CPU threads."""
    gpus = visible_gpus()
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus
    ]
    return {"gpus": names, "cpu_cores": available_cores()}


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)
