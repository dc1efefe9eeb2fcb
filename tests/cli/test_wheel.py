"""The package outside the repository: as a wheel, and as the steps of the Dockerfile make it."""

import glob
import os
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEW = ("train.steps_per_epoch=2", "train.batch_size=8", "model.backbone.width=8")

pytestmark = pytest.mark.whole


def steps():
    """Words of each step of the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What the Dockerfile copies; a build leaves files behind, which the next one would take."""
    folder = tmp_path_factory.mktemp("source")
    for word, *names, target in steps():
        paths = [path for name in names for path in glob.glob(str(ROOT / name))]
        for path in paths if word == "COPY" else ():
            if Path(path).is_dir():
                shutil.copytree(path, folder / target, symlinks=True)
            else:
                shutil.copy(path, folder / target)
    return folder


def environment(folder):
    """A new environment that finds all other packages in this one; gives its programs' folder."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return folder / "bin"


def run(programs, folder, *command):
    unset = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")  # Users have neither.
    variables = {k: v for k, v in os.environ.items() if k not in unset}
    return subprocess.run(
        command,
        cwd=folder,
        env={**variables, "PATH": f"{programs}:{variables['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )


def pip(programs, folder, *arguments):
    ended = run(programs, folder, "python", "-m", "pip", "-q", *arguments)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    programs = environment(folder / "environment")
    pip(programs, source, "wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    (file,) = folder.glob("*.whl")
    pip(programs, source, "install", "--no-deps", "--no-index", str(file))
    return file, programs


def requirements(name):
    """The lines of a file of requirements, with those of the files that it names."""
    lines = (ROOT / name).read_text().splitlines()
    own = [line for line in lines if line and not line.startswith("#")]
    parts = [
        requirements(line.removeprefix("-r ")) if line.startswith("-r ") else [line] for line in own
    ]
    return [line for part in parts for line in part]


def test_the_wheel_holds_configs_and_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel[0]) as file:
        names = set(file.namelist())
        (about,) = [name for name in names if name.endswith("/METADATA")]
        text = file.read(about).decode()
    configs = {f"loc_keras/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert {"loc_keras/py.typed", "loc_keras/report/templates/page.css", *configs} <= names
    for extra in ("hub", "export", "serving", "demo", "beam"):
        wanted = requirements(f"requirements-{extra}.txt")
        assert f"Provides-Extra: {extra}" in text
        assert text.count(f'; extra == "{extra}"') == len(wanted)


def test_the_wheel_alone_trains(wheel, tmp_path):
    programs = wheel[1]
    version = run(programs, tmp_path, "loc-keras", "--version")
    assert version.stdout.startswith("loc-keras "), version.stderr
    told = run(programs, tmp_path, "loc-keras", "train", "--help").stdout
    assert "loc-keras train --data FOLDER" in told
    digits = run(programs, tmp_path, "loc-keras", "digits", "--out", "digits", "--limit", "40")
    assert digits.returncode == 0, digits.stderr
    assert "train: 40 images" in digits.stdout
    changes = [part for change in (*FEW, "export.enabled=false") for part in ("--set", change)]
    short = ("--config", "base", "--epochs", "1", "--run-dir", "run", *changes)
    trained = run(programs, tmp_path, "loc-keras", "train", *short)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert (tmp_path / "run" / "best.keras").is_file()
    shown = run(programs, tmp_path, "loc-keras", "train", "--config", "nothing")
    assert shown.returncode == 2
    assert "those of the package are base, " in shown.stderr


def test_the_steps_of_the_dockerfile_give_the_command(source, tmp_path):
    programs = environment(tmp_path / "environment")
    for word, *arguments in steps():
        if word == "RUN":
            command = " ".join(map(shlex.quote, arguments)).replace("'.${EXTRAS}'", ".")
            ended = run(programs, source, "bash", "-c", command)
            assert ended.returncode == 0, ended.stderr
    (entry,) = [words for words in steps() if words[0] == "ENTRYPOINT"]
    assert entry[1:] == ["[loc-keras]"]
    shown = run(programs, tmp_path, str(programs / "loc-keras"), "--help")
    assert shown.returncode == 0, shown.stderr
    assert "digits" in shown.stdout
