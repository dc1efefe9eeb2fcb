"""What a processor gets: TensorFlow's oneDNN kernels, and bfloat16 where it has units for it."""

import importlib
import os

import pytest

import loc_keras
from loc_keras import _environ
from loc_keras.training import precision

INTEL_WITH_UNITS = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n"
AMD_WITHOUT = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n\nprocessor\t: 1\n"


def test_onednn_is_asked_for(monkeypatch):
    monkeypatch.delenv(_environ.ONEDNN_VARIABLE, raising=False)
    importlib.reload(_environ)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"


def test_what_the_user_said_of_onednn_stands(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    importlib.reload(_environ)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_onednn_is_asked_for_before_tensorflow_is_imported():
    with open(loc_keras.__file__, encoding="utf-8") as file:
        imports = [line for line in file if line.startswith(("import ", "from "))]
    names = [line.split()[1] for line in imports if line.split()[1] != "typing"]
    # It sets variables, by the standard library alone, that TensorFlow reads when it is imported.
    assert names[0] == "loc_keras._environ"
    with open(_environ.__file__, encoding="utf-8") as file:
        found = [line for line in file if line.startswith(("import ", "from "))]
    assert found == ["import os\n", "from pathlib import Path\n"]


def test_native_logs_are_hushed_without_a_driver_unless_the_user_has_decided(monkeypatch, tmp_path):
    monkeypatch.setattr(_environ, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    _environ.quieten_native_logs()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setattr(_environ, "DRIVER", tmp_path)
    _environ.quieten_native_logs()
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    monkeypatch.setattr(_environ, "DRIVER", tmp_path / "none")
    _environ.quieten_native_logs()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == ("3" if os.path.isdir("/proc") else None)


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
