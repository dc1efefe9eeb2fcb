"""The wheel alone, installed outside the repository, with its command, configs and pages."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("loc_keras", "configs", "pyproject.toml", "README.md", "LICENSE", "requirements*.txt")

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since a build leaves files behind, some of which the next would take."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            target = source / path.name
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True)
            else:
                shutil.copy(path, target)
    pip("wheel", "--no-deps", "--wheel-dir", built, source)
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """`loc-keras` of an environment that has the wheel, and all else from this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    pip("install", "--no-deps", "--no-index", "--target", packages, wheel)
    # With --target the scripts are made for the interpreter that runs pip.
    script = packages / "bin" / "loc-keras"
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join([f"#!{place / 'bin' / 'python'}\n", *lines[1:]]))
    return script


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], check=True)


def run(command, folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_it_holds_configs_and_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (about,) = [name for name in names if name.endswith("/METADATA")]
        text = file.read(about).decode()
    configs = {f"loc_keras/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert {"loc_keras/py.typed", "loc_keras/report/templates/page.css", *configs} <= names
    for extra in ("hub", "export", "serving", "demo", "beam"):
        lines = (ROOT / f"requirements-{extra}.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert f"Provides-Extra: {extra}" in text
        assert text.count(f'; extra == "{extra}"') == len(wanted)


def test_its_command_works_outside_the_repository(command, tmp_path):
    version = run(command, tmp_path, "--version")
    assert version.stdout.startswith("loc-keras "), version.stderr
    assert "loc-keras train --data FOLDER" in run(command, tmp_path, "train", "--help").stdout
    digits = run(command, tmp_path, "digits", "--out", "digits", "--limit", "40")
    assert digits.returncode == 0, digits.stderr
    assert "train: 40 images" in digits.stdout
    few = ("train.steps_per_epoch=2", "train.batch_size=8", "model.backbone.width=8")
    changes = [part for change in (*few, "export.enabled=false") for part in ("--set", change)]
    trained = run(
        command,
        tmp_path,
        "train",
        "--config",
        "base",
        "--epochs",
        "1",
        "--run-dir",
        "run",
        *changes,
    )
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert (tmp_path / "run" / "best.keras").is_file()
    shown = run(command, tmp_path, "train", "--config", "nothing")
    assert shown.returncode == 2
    assert "those of the package are base, " in shown.stderr
