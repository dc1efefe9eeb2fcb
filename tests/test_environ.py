"""What happens when TensorFlow and Keras are imported, and what a processor gets."""

import os
import subprocess
import sys

import pytest

from loc_keras import _environ
from loc_keras.errors import TrainingError
from loc_keras.training import precision

INTEL_WITH_UNITS = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n"
AMD_WITHOUT = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n\nprocessor\t: 1\n"


def test_onednn_is_asked_for(monkeypatch):
    monkeypatch.delenv(_environ.ONEDNN_VARIABLE, raising=False)
    _environ.request_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"


def test_what_the_user_said_of_onednn_stands(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    _environ.request_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_onednn_is_asked_for_before_tensorflow_is_imported():
    code = "import loc_keras, os, sys; print(os.environ['TF_ENABLE_ONEDNN_OPTS'], *sys.modules)"
    flag, *modules = python(code).stdout.split()
    assert flag == "1"
    assert set(modules).isdisjoint({"tensorflow", "keras", "numpy", "pydantic", "rich"})


# Native log lines

LINES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1796066668.754111   16063 port.cc:153] oneDNN custom operations are on.\n"
    b"I0000 00:00:1796066668.770499   16063 cudart_stub.cc:31] Could not find cuda drivers.\n"
)
"""As TensorFlow 2.21 writes them, whatever the level is."""


@pytest.mark.parametrize(
    ("level", "driver", "after", "shown"),
    [
        (None, False, "3", b""),
        (None, True, "2", b""),
        ("3", False, "3", b""),
        ("0", False, "0", LINES),
    ],
)
def test_known_native_lines_are_hidden_unless_asked_for(
    level, driver, after, shown, monkeypatch, tmp_path, capfdbinary
):
    monkeypatch.setattr(_environ, "DRIVER", tmp_path / ("." if driver else "none"))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    with _environ.quieten_native_logs():
        os.write(2, LINES + b"something else\n")
    assert capfdbinary.readouterr().err == shown + b"something else\n"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == after


def test_after_an_error_all_native_lines_are_shown(capfdbinary):
    with pytest.raises(ImportError), _environ.without_native_lines():
        os.write(2, LINES)
        raise ImportError
    assert capfdbinary.readouterr().err == LINES
    os.write(2, b"still open")
    assert capfdbinary.readouterr().err == b"still open"


# Registration

SHOW = """
print(*sorted(name for name in keras.saving.get_custom_objects() if name.startswith("loc_keras>")))
"""


def python(code):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    "order",
    [
        "import loc_keras, keras",
        "import keras, loc_keras",
        # A module of ours is half imported when it imports Keras.
        *(
            pytest.param(order, marks=pytest.mark.whole)
            for order in (
                "import loc_keras.losses, keras",
                "import loc_keras.trust.statements, keras",
            )
        ),
    ],
)
def test_classes_are_registered_whatever_is_imported_first(order):
    ended = python(order + SHOW)
    # One of each module that has some.
    wanted = {"giou", "BoxLoss", "MeanIoU", "OrderedBox", "Mirror", "StatedTrust"}
    assert {f"loc_keras>{name}" for name in wanted} <= set(ended.stdout.split())
    if order.startswith("import loc_keras"):
        assert ended.stderr == ""


@pytest.mark.parametrize(
    ("text", "wide", "policy"),
    [
        (INTEL_WITH_UNITS, True, "mixed_bfloat16"),
        (INTEL_WITH_UNITS, False, "float32"),
        (AMD_WITHOUT, True, "float32"),
        ("", True, "float32"),
    ],
)
def test_bfloat16_on_a_processor_with_units_and_a_wide_body(
    text, wide, policy, tmp_path, monkeypatch
):
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    monkeypatch.setattr(precision, "CPU_INFO", file)
    monkeypatch.setattr(precision, "gpu_capabilities", list)
    assert precision.set_precision("auto", wide=wide) == policy


def test_a_system_that_does_not_say_gets_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "absent")
    assert precision.cpu_flags() == frozenset()


def test_a_gpu_decides_before_the_processor(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text(INTEL_WITH_UNITS)
    monkeypatch.setattr(precision, "CPU_INFO", file)
    monkeypatch.setattr(precision, "gpu_capabilities", lambda: [(7, 5)])
    assert precision.set_precision("auto", wide=True) == "mixed_float16"


# GPUs; on a machine without one


def test_a_gpu_that_is_not_used_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(precision, "DRIVER", tmp_path)
    assert f"{tmp_path} shows a driver of NVIDIA, but TensorFlow uses no GPU" in (
        precision.missing_gpu_note()
    )
    monkeypatch.setattr(precision, "DRIVER", tmp_path / "none")
    assert precision.missing_gpu_note() is None


@pytest.mark.parametrize(
    ("name", "chosen"), [("cpu", []), ("gpu", ["a", "b"]), ("1", ["b"]), (" 0, 1", ["a", "b"])]
)
def test_a_device_is_chosen_by_its_name(name, chosen, monkeypatch):
    seen = []
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    config = precision.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(config, "set_visible_devices", lambda these, kind: seen.append(these))
    precision.use_device(name)
    assert seen == [chosen]


@pytest.mark.parametrize("name", ["gpu", "0", "tpu", "-1"])
def test_a_device_that_is_not_there_is_refused(name, monkeypatch):
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(TrainingError, match=f"--device {name}: TensorFlow finds 0 GPUs here"):
        precision.use_device(name)
