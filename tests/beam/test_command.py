"""`predict --runner DirectRunner`, with a real export that no one trained."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from operator import itemgetter
from pathlib import Path

import pytest
from helpers.localizer_run import kinds, photograph
from helpers.served_bundles import exported_bundle, exported_litert

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from loc_keras import Localizer, predict
from loc_keras.beam import command
from loc_keras.beam.command import sources_of
from loc_keras.beam.worker import LocalizerHandler, Task, local_copy
from loc_keras.errors import DataError, ModelError

PX = 1e-3
"""Largest difference between sides of a box, in px, of a picture that one process and another have
seen in batches of other sizes: `docs/export.md` promises 1e-5 in fractions of pictures, of which
these have fewer than 100 px a side."""

WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


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


# The command


def test_each_file_has_one_row_as_the_localizer_says(model, images, tmp_path, capsys):
    listed = tmp_path / "again.txt"
    gone = [f"/gone{number}.jpg" for number in range(3)]
    again = [f"{images}/{seed}.jpg" for seed in range(23)]
    listed.write_text("".join(f"{path}\n" for path in [*again, *gone]))
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
    assert paths == sorted([*files, *gone])  # Those named twice, too.
    damaged = "its JPEG data is damaged, cut short or of an unsupported kind (RGB, 8 bit)"
    large = "it has 200,001 bytes, and at most 200,000 are read"
    assert {record["path"]: record["reason"] for record in failed} == {
        str(images / "cut.jpg"): f"cannot be decoded: {damaged}",
        str(images / "empty.png"): "is empty",
        str(images / "long.png"): f"cannot be read ({large})",
        **dict.fromkeys(gone, "does not exist"),
    }
    localizer = Localizer.open(model)
    for record in answers:
        compare(record, localizer.predict(record["path"]))
    assert f"... and 1 more in {tmp_path}/out/failures*.jsonl" in told.err
    shown = [re.sub(r"[│\s]+", " ", line).strip() for line in told.err.splitlines()]
    assert {"images 44", "answered 38", "could not be read 6"} <= set(shown)
    assert "WARNING" not in told.err
    made = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert made["model"] == localizer.digest
    assert (made["answered"], made["failed"], made["left_out"]) == (38, 6, 1)
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
    # The folder of versions: its newest is opened, here and by the worker.
    assert run_predict("toy://bucket/model", "toy://bucket/out", *arguments) == 2
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
    assert run_predict("toy://bucket/a", "toy://bucket/other", *arguments) == 2
    assert "nor saved_model.pb" in capsys.readouterr().err


def test_a_light_file_answers_on_workers_without_tensorflow(images, tmp_path):
    version = exported_litert(tmp_path / "model")
    program = """
import sys
from loc_keras import predict
code = predict.main(sys.argv[1:])
assert not {"tensorflow", "keras"} & set(sys.modules)
sys.exit(code)
"""
    for name, more in (("local", []), ("beam", ["--runner", "DirectRunner"])):
        given = ["--model", version, "--out", tmp_path / name, *more, images]
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, given)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr  # Some files are none.
        assert f"LiteRT answers, from {version}/model.tflite" in done.stderr
    local = (tmp_path / "local" / "predictions.jsonl").read_text().splitlines()
    answers = {record["path"]: record for record in lines(tmp_path / "beam", "predictions")}
    assert len(answers) == len(local) == 38
    for record in map(json.loads, local):
        found = answers[record["path"]]
        assert found["score"] == pytest.approx(record.pop("score"), abs=1e-5)
        assert found["box"] == pytest.approx(record.pop("box"), abs=PX)
        for name in ("label", "height", "width"):
            assert found[name] == record[name]
    failed = (tmp_path / "local" / "failures.jsonl").read_text().splitlines()
    key = itemgetter("path")
    assert sorted(map(json.loads, failed), key=key) == sorted(
        lines(tmp_path / "beam", "failures"), key=key
    )


def test_another_model_at_the_same_place_is_refused(model):
    task = Task(str(model), "another digest", "/", 5, 10**6)
    handler = LocalizerHandler(task, min_batch_size=1, max_batch_size=4)
    with pytest.raises(ModelError, match=f"{model} is another model on a worker"):
        handler.load_model()


def test_of_a_model_by_url_what_belongs_to_it_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "folder", tmp_path)
    run = ("best.keras", "classes.txt", "checkpoints/1/state", "export/1/model.tflite")
    for name in (*run, "photos/a.jpg", "model.xml", "model.bin"):
        (tmp_path / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / name).touch()

    def copied(url):
        copy = Path(local_copy(url))
        return copy.name, {
            path.relative_to(copy.parent).as_posix()
            for path in copy.parent.rglob("*")
            if path.is_file()
        }

    assert copied("toy://bucket/export/1/") == ("1", {"1/model.tflite"})
    assert copied("toy://bucket/model.xml") == ("model.xml", {"model.xml", "model.bin"})
    beside = {"best.keras", "classes.txt", "model.xml", "model.bin"}
    assert copied("toy://bucket/best.keras") == ("best.keras", beside)
    with pytest.raises(ModelError, match="toy://bucket/none does not exist"):
        local_copy("toy://bucket/none")


def test_a_folder_without_images_leaves_nothing(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").touch()
    assert run_predict(model, tmp_path / "out", tmp_path / "in") == 2
    assert "there is no image among what was given" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_option_of_the_direct_runner_is_told(model, images, tmp_path, capsys):
    assert run_predict(model, tmp_path, images, "--direct_num_worker=2") == 2
    assert "DirectRunner has no option --direct_num_worker" in capsys.readouterr().err


class Broken(LocalizerHandler):
    def run_inference(self, batch, model, inference_args=None):
        raise MemoryError("no room")


def test_a_step_that_fails_ends_in_a_sentence_and_leaves_nothing(
    model, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command.worker, "LocalizerHandler", Broken)
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
getsize = os.path.getsize

def waiting(path):
    if str(path).endswith("never.jpg"):
        Path(path).with_name("waits").touch()
        open(path).close()  # A pipe to which nobody writes.
    return getsize(path)

os.path.getsize = waiting
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
