"""The four sets of photographs through the public commands alone.

    LOC_KERAS_DATA=FOLDER python -m pytest -m slow tests/cli/test_photographs.py

FOLDER holds `tiny_imagenet_20.tar`, `caltech3.tar`, `microcontrollers.tar`, `vegetables3.tar`.
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helpers.annotated import resolved

from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = {
    "tiny_imagenet_20": "tiny-imagenet-20",
    "caltech3": "caltech3",
    "microcontrollers": "microcontrollers",
    "vegetables3": "vegetables3",
}
# Objects that can be used, and objects in all, as their description counts them.
COUNTS = {
    "tiny_imagenet_20": (11_000, 11_000),
    "caltech3": (2_032, 2_033),
    "microcontrollers": (177, 177),
    "vegetables3": (186, 186),
}
# Least class accuracy, mean IoU, Top-1 and GT-known localization on the test split. Constant boxes
# have .45, .79, .37 and .60 mean IoU.
LEAST = {
    "tiny_imagenet_20": (0.65, 0.55, 0.50, 0.68),
    "caltech3": (0.98, 0.88, 0.97, 0.97),
    "microcontrollers": (0.60, 0.50, 0.40, 0.55),
    "vegetables3": (0.90, 0.70, 0.80, 0.85),
}


@pytest.fixture
def unpacked(optional_data, tmp_path):
    def unpack(name):
        archive = optional_data / f"{name}.tar"
        if not archive.exists():
            pytest.skip(f"LOC_KERAS_DATA holds no {archive.name}")
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path, filter="data")
        return tmp_path / FOLDERS[name]

    return unpack


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_read_and_begin_with_their_command(path):
    config = load_config(path, [])
    assert config.name == path.stem
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"--config configs/{path.name}" in line for line in header)
    assert any(line.startswith("# score") for line in header)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_every_object_is_accounted_for(unpacked, name):
    folder = unpacked(name)
    config = load_config(CONFIGS / f"{name}.yaml", [f"data.source.path={folder}"])
    source = DataSource(config)
    annotations = source.annotations
    found = resolved(annotations, source.section)
    used, total = COUNTS[name]
    assert sum(map(len, annotations.objects.values())) == total
    assert sum(map(len, found.splits.values())) == used
    assert len(found.faults) == total - used


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_checked_trained_and_evaluated(unpacked, tmp_path, name):
    own = ["--set", f"data.source.path={unpacked(name)}"]
    config = ["--config", str(CONFIGS / f"{name}.yaml"), *own]

    def run(command, *arguments, codes=(0,)):
        done = subprocess.run(
            [sys.executable, "-m", f"loc_keras.{command}", *arguments], check=False
        )
        assert done.returncode in codes

    # Errors of the data are told; the config says to leave them out.
    run("check", *config, "--report", str(tmp_path / "report"), codes=(0, 1))
    assert (tmp_path / "report" / "report.html").is_file()
    exports = ["--set", f"export.dir={tmp_path / 'saved_models'}"]
    run("train", *config, *exports, "--run-dir", str(tmp_path / "run"))
    run("evaluate", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "evaluation"))
    found = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["figures"]
    keys = ("class_accuracy", "mean_iou", "top1_loc", "gt_known_loc")
    for key, least in zip(keys, LEAST[name], strict=True):
        assert found[key]["value"] >= least, (key, found[key])
