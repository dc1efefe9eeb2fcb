"""`predict --runner DirectRunner`, with a real export that no one trained."""

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.localizer_run import kinds, photograph
from helpers.served_bundles import exported_bundle

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

import numpy as np
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from loc_keras import Localizer, predict
from loc_keras.beam import command
from loc_keras.beam.command import exported_model, sources_of
from loc_keras.beam.worker import ExportedModel, ExportedModelHandler, Task, records_of
from loc_keras.errors import DataError, ModelError

PX = 1e-3
"""Largest difference between sides of a box, in px, of a picture that one process and another have
seen in batches of other sizes: `docs/export.md` promises 1e-5 in fractions of pictures, of which
these have fewer than 100 px a side."""

WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
PLAIN = (".jpg", ".png", ".gif", ".bmp")


@pytest.fixture(scope="module")
def model():
    _, base = exported_bundle()
    return base


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Some 40 files: of each kind, small photographs, two that are none and one beyond a limit."""
    folder = tmp_path_factory.mktemp("images")
    for name, content in kinds().items():
        (folder / name).write_bytes(content)
    for seed in range(23):
        photograph(seed).save(folder / f"{seed}.jpg")
    (folder / "cut.jpg").write_bytes(kinds()["photo.jpg"][:700])
    (folder / "empty.png").touch()
    (folder / "long.png").write_bytes(bytes(200_001))
    (folder / "readme.txt").touch()
    return folder


def run_predict(model, out, *arguments):
    given = ["--model", str(model), "--out", str(out), "--runner", "DirectRunner", *arguments]
    return predict.main([str(one) for one in given])


def lines(out, kind):
    return [
        json.loads(line)
        for file in sorted(out.glob(f"{kind}-*-of-*.jsonl"))
        for line in file.open(encoding="utf-8")
    ]


def compare(record, answer):
    """A record is the local one; the export's arithmetic is done in batches of another size."""
    expected = answer.as_dict()
    assert record.keys() == {"image", "path", *expected}
    for key in ("label", "index", "found", "height", "width"):
        assert record[key] == expected[key]
    assert record["score"] == pytest.approx(expected["score"], abs=1e-5)
    for name in ("box", "box_fraction"):
        assert record[name] == pytest.approx(expected[name], abs=PX)
    assert [one["label"] for one in record["top_k"]] == [one["label"] for one in expected["top_k"]]


# Sources


def test_sources_are_told_apart_by_what_there_is(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    (tmp_path / "names.txt").write_text("in/a.jpg\n")
    there = {"gs://b/x/1.jpg", "gs://b/x/*.jpg", "gs://b/y/**", str(tmp_path / "names.txt")}
    asked = ["gs://b/x/1.jpg", "gs://b/x/*.jpg", "gs://b/y/"]
    assert sources_of(asked, [], there.__contains__) == (
        [
            ("pattern", "gs://b/x/1.jpg"),
            ("pattern", "gs://b/x/*.jpg"),
            ("folder", "gs://b/y"),
        ],
        "gs://b",
    )
    folder, listed = str(tmp_path / "in"), str(tmp_path / "names.txt")
    assert sources_of([folder], [listed], there.__contains__) == (
        [("local", folder), ("list", listed)],
        str(tmp_path),
    )
    with pytest.raises(DataError, match=r"gs://b/none\.jpg matches no file"):
        sources_of(["gs://b/none.jpg"], [], there.__contains__)
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        sources_of([], ["none.txt"], there.__contains__)


# Records


def test_outputs_become_the_records_of_a_local_predict():
    # A picture 100 px high and 200 wide. By hand: the box is (.1 * 200, .2 * 100, .6 * 200, 1.2
    # clipped to 1 * 100); the outer box is clipped to the picture, the inner one is empty.
    outputs = {
        "ok": np.array([True, False, True]),
        "reason": np.array([b"", b"is empty", b""]),
        "probabilities": np.array([[0.2, 0.7, 0.1], [0, 0, 0], [0.1, 0.2, 0.7]], np.float32),
        "softmax_calibrated": np.array([[0.3, 0.5, 0.2], [0, 0, 0], [0.2, 0.3, 0.5]], np.float32),
        "box_fraction": np.array([[0.1, 0.2, 0.6, 1.2], [0] * 4, [0.5] * 4], np.float32),
        "size": np.array([[100, 200], [0, 0], [10, 10]], np.int32),
        "p_iou50": np.array([0.75, 0, 0.5], np.float32),
        "box_outer": np.array([[-5, 10, 150, 100], [0] * 4, [1] * 4], np.float32),
        "box_inner": np.zeros((3, 4), np.float32),
        "label_set": np.array([[True, True, False], [False] * 3, [False, False, True]]),
        "novelty": np.array([0.25, 0, 0.5], np.float32),
        "known": np.array([True, False, True]),
    }
    heads = [{"image": f"{name}.jpg", "path": f"/{name}.jpg"} for name in "abc"]
    first, second, third = records_of(
        outputs, heads, ("cat", "dog", "nothing"), background=2, top_k=2
    )
    assert first.pop("box_fraction") == pytest.approx([0.1, 0.2, 0.6, 1])
    assert first.pop("box") == pytest.approx([20, 20, 120, 100], abs=1e-4)
    assert first == {
        "image": "a.jpg",
        "path": "/a.jpg",
        "label": "dog",
        "index": 1,
        "score": 0.5,
        "found": True,
        "height": 100,
        "width": 200,
        "top_k": [
            {"label": "dog", "index": 1, "score": 0.5},
            {"label": "cat", "index": 0, "score": 0.3},
        ],
        "p_iou50": 0.75,
        "box_outer": [0, 10, 150, 100],
        "box_inner": None,
        "label_set": ["dog", "cat"],
        "novelty": 0.25,
        "known": True,
    }
    assert second == {"image": "b.jpg", "path": "/b.jpg", "reason": "is empty"}
    assert (third["label"], third["found"], third["box"]) == ("nothing", False, None)


# The command


def test_each_file_has_one_row_as_the_localizer_says(model, images, tmp_path, capsys):
    listed = tmp_path / "again.txt"
    listed.write_text("".join(f"{images}/{seed}.jpg\n" for seed in range(23)) + "/gone.jpg\n")
    # Bundles are done twice and count once, as on runners that repeat them.
    code = run_predict(
        *(model, tmp_path / "out", images, images / "*.png", "--list", listed, "--shards", 2),
        *("--max-bytes", 200_000, "--min-batch-size", 4, "--direct_runner_bundle_repeat=1"),
    )
    told = capsys.readouterr()
    assert code == 2
    answers, failed = lines(tmp_path / "out", "predictions"), lines(tmp_path / "out", "failures")
    assert len(list((tmp_path / "out").glob("predictions-*-of-00002.jsonl"))) == 2
    paths = sorted(record["path"] for record in [*answers, *failed])
    files = [str(path) for path in images.iterdir() if path.suffix != ".txt"]
    assert paths == sorted([*files, "/gone.jpg"])  # Those named twice, too.
    assert {record["path"]: record["reason"] for record in failed} == {
        str(images / "lossy.webp"): "is not a JPEG, PNG, GIF or BMP image",
        str(images / "page.tif"): "is not a JPEG, PNG, GIF or BMP image",
        str(images / "cut.jpg"): "is damaged or cut short",
        str(images / "empty.png"): "is empty",
        str(images / "long.png"): "has more than 200,000 bytes; --max-bytes sets the limit",
        "/gone.jpg": "does not exist",
    }
    localizer = Localizer.open(model)
    for record in answers:
        compare(record, localizer.predict(record["path"]))
    assert f"... and 1 more in {tmp_path}/out/failures*.jsonl" in told.err
    shown = [re.sub(r"[│\s]+", " ", line).strip() for line in told.err.splitlines()]
    assert {"images 42", "answered 36", "could not be read 6"} <= set(shown)
    assert "WARNING" not in told.err
    made = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert made["model"] == localizer.digest
    assert (made["answered"], made["failed"], made["left_out"]) == (36, 6, 1)
    # It is whole, so it is not written over; without its last file it would be a rest.
    assert run_predict(model, tmp_path / "out", images) == 2
    assert "holds answers; a run on a runner is not continued" in capsys.readouterr().err
    (tmp_path / "out" / "predict.json").unlink()
    assert run_predict(model, tmp_path / "out", images) == 2
    assert "what a run that did not end has written" in capsys.readouterr().err


class Bucket(LocalFileSystem):
    """A file system of URLs without folders, as a bucket of a cloud is: `toy://` names a folder."""

    folder = Path()

    @classmethod
    def scheme(cls):
        return "toy"

    def has_dirs(self):
        return False

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        pass

    def _list(self, prefix):
        for path in sorted(self.folder.rglob("*")):
            url = f"toy://{path.relative_to(self.folder).as_posix()}"
            if path.is_file() and url.startswith(prefix):
                yield FileMetadata(url, path.stat().st_size)

    def open(self, path, *args, **options):
        return super().open(self._local(path), *args, **options)

    def create(self, path, *args, **options):
        return super().create(self._local(path), *args, **options)

    def rename(self, sources, targets):
        for source, target in zip(sources, targets, strict=True):
            os.replace(self._local(source), self._local(target))

    def delete(self, paths):
        for path in paths:
            Path(self._local(path)).unlink()

    def exists(self, path):
        return Path(self._local(path)).is_file()

    def metadata(self, path):
        return FileMetadata(path, Path(self._local(path)).stat().st_size)

    def _local(self, path):
        return str(self.folder / path.removeprefix("toy://"))


def test_model_images_and_answers_may_be_urls(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Bucket, "folder", tmp_path)
    shutil.copytree(model, tmp_path / "bucket" / "model")
    for name in ("a/0.jpg", "a/b/1.jpg", "a/b/.hidden.jpg", "a/readme.txt", "c/2.jpg"):
        (tmp_path / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(1).save(tmp_path / "bucket" / name, "JPEG")
    (tmp_path / "bucket" / "names.txt").write_text("a/0.jpg\nc/2.jpg\ntoy://bucket/none.jpg\n")
    arguments = ("toy://bucket/a", "--list", "toy://bucket/names.txt", "--shards", 1)
    assert run_predict("toy://bucket/model/1", "toy://bucket/out", *arguments) == 2
    out = tmp_path / "bucket" / "out"
    answers, (failed,) = lines(out, "predictions"), lines(out, "failures")
    assert {record["image"]: record["path"] for record in answers} == {
        name: f"toy://bucket/{name}" for name in ("a/0.jpg", "a/b/1.jpg", "c/2.jpg")
    }
    assert (failed["image"], failed["reason"]) == ("none.jpg", "does not exist")
    expected = Localizer.open(model).predict(tmp_path / "bucket" / "c" / "2.jpg")
    for record in answers:
        compare(record, expected)
    made = json.loads((out / "predict.json").read_text())
    assert (made["root"], made["left_out"]) == ("toy://bucket", 1)
    assert run_predict("toy://bucket/model/1", "toy://bucket/out/", *arguments) == 2
    assert "toy://bucket/out holds answers" in capsys.readouterr().err
    assert run_predict("toy://bucket/model", "toy://bucket/other", *arguments) == 2
    assert "holds no saved_model.pb" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_need_nothing_of_this_package(model, images, tmp_path):
    exported = ExportedModel(str(model / "1"), ("one", "two", "three"), None, "digest")
    task = Task(exported, str(images), 5, 10**6)
    sent = pickle.dumps(ExportedModelHandler(task, min_batch_size=1, max_batch_size=4))
    (tmp_path / "sent").write_bytes(sent)
    program = f"""
import pickle
import sys
from pathlib import Path
handler = pickle.loads(Path("sent").read_bytes())
records = handler.run_inference(["{images}/0.jpg", "{images}/gone.jpg"], handler.load_model())
print([record.get("label", record.get("reason")) for record in records])
print([name for name in ("loc_keras", "keras_cv", "pydantic") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    label = Localizer.open(model).predict(images / "0.jpg").label
    assert done.stdout.splitlines() == [str([label, "does not exist"]), "[]"]


def test_what_is_no_export_is_refused_with_the_command_that_makes_one(tmp_path, model):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.keras").touch()
    command_line = f"python -m loc_keras.export --run {tmp_path}/run --out"
    for given in (tmp_path / "run", tmp_path / "run" / "best.keras"):
        with pytest.raises(ModelError, match=command_line):
            exported_model(str(given))
    with pytest.raises(ModelError, match="holds no exported version"):
        exported_model(str(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ModelError, match=r"does not give box_fraction, .* export its run anew"):
        exported_model(str(tmp_path))


def test_a_folder_without_images_leaves_nothing(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").touch()
    assert run_predict(model, tmp_path / "out", tmp_path / "in") == 2
    assert "there is no image among what was given" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_option_of_the_direct_runner_is_told(model, images, tmp_path, capsys):
    assert run_predict(model, tmp_path, images, "--direct_num_worker=2") == 2
    assert "DirectRunner has no option --direct_num_worker" in capsys.readouterr().err


class Broken(ExportedModelHandler):
    def run_inference(self, batch, model, inference_args=None):
        raise MemoryError("no room")


def test_a_step_that_fails_ends_in_a_sentence_and_leaves_nothing(
    model, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command.worker, "ExportedModelHandler", Broken)
    assert run_predict(model, tmp_path / "out", images) == 2
    told = capsys.readouterr().err
    assert "error: DirectRunner could not finish (no room [while running" in told
    log = Path(told.rpartition(" is in ")[2].strip().removesuffix("."))
    assert "Traceback" in log.read_text()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_of_5000_images_each_has_one_row_from_two_workers(model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(100):
        photograph(seed).save(folder / f"{seed:04d}.jpg")
    for number in range(100, 5000):
        os.link(folder / f"{number % 100:04d}.jpg", folder / f"{number:04d}.jpg")
    assert run_predict(model, tmp_path / "out", folder, *WORKERS) == 0
    answers = lines(tmp_path / "out", "predictions")
    assert [record["image"] for record in sorted(answers, key=lambda one: one["image"])] == [
        f"{number:04d}.jpg" for number in range(5000)
    ]
    localizer = Localizer.open(model)
    expected = localizer.predict(sorted(folder.iterdir())[:100])
    for record in answers:
        compare(record, expected[int(record["image"][:4]) % 100])


WAITS = """
import os
from pathlib import Path
isfile = os.path.isfile

def waiting(path):
    if str(path).endswith("never.jpg"):  # A pipe, which would be refused.
        Path(path).with_name("waits").touch()
        return True
    return isfile(path)

os.path.isfile = waiting
"""


def alive_in(group):
    """What Linux says of the processes of a group, but for those that have only to be reaped."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            found += [file.read_text()] * (its_group == str(group) and state not in "ZX")
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says who is left")
@pytest.mark.parametrize("workers", [[], WORKERS], ids=["in one process", "in two"])
def test_ctrl_c_ends_readers_that_wait_in_all_processes(model, tmp_path, workers):
    (tmp_path / "sitecustomize.py").write_text(WAITS)
    os.mkfifo(tmp_path / "never.jpg")
    photograph(0).save(tmp_path / "first.jpg")
    command = [sys.executable, "-m", "loc_keras.predict", "--model", model, "--runner"]
    command += ["DirectRunner", "--out", tmp_path / "out", *workers, *tmp_path.glob("*.jpg")]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [str(one) for one in command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (tmp_path / "waits").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)  # As a terminal does.
        pressed = time.monotonic()
        told = process.communicate(timeout=60)[1]
        assert time.monotonic() - pressed < 3  # 2 s, and what a busy machine adds.
    assert process.returncode == 130
    assert [line for line in told.splitlines() if line.startswith("stopped")] == [
        "stopped; the same command begins anew, and a cluster may go on with this one."
    ]
    until = time.monotonic() + 1  # What was killed gives its memory back.
    while (left := alive_in(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    assert not list(tmp_path.glob("out/predictions*"))
