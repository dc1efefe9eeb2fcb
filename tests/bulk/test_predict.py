"""The command `predict`: what it finds, writes, leaves out, and how it goes on where it stopped."""

import csv
import json
import os
import signal
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from helpers.hostile_images import UNFIT, make_unfit
from helpers.localizer_run import (
    CLASSES,
    kinds,
    photograph,
    write_novelty_of_photographs,
    write_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from loc_keras import Localizer, predict
from loc_keras.bulk import outputs
from loc_keras.bulk.inputs import Inputs
from loc_keras.bulk.outputs import (
    AnswerSettings,
    Journal,
    OutputFolder,
    PathSet,
    sidecars_of,
    write_coco,
    write_csv,
)
from loc_keras.bulk.run import answer_into
from loc_keras.commands import predict as work
from loc_keras.errors import DataError, ImageError
from loc_keras.localizer.results import ClassScore, Localization

# What is named


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b/2.jpg",
        "b/10.PNG",
        "b/c/1.gif",
        "a.bmp",
        "note.txt",
        ".hidden.png",
        "out/x.jpg",
    ):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "tree"


def named(inputs, folder):
    return [os.path.relpath(path, folder) for path in inputs]


def test_folders_are_walked_in_order_without_hidden_and_other_files(tree):
    inputs = Inputs([str(tree)], tree / "out")
    for _ in range(2):
        assert named(inputs, tree) == ["a.bmp", "b/10.PNG", "b/2.jpg", "b/c/1.gif"]
        assert inputs.left_out == 1
    assert inputs.root == str(tree)
    link = tree / "b" / "round"
    link.symlink_to(tree)
    assert len(named(inputs, tree)) == 4


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.bmp", ["a.bmp"]),
        ("b/*", ["b/10.PNG", "b/2.jpg", "b/c/1.gif"]),
        ("**/*.jpg", ["b/2.jpg", "out/x.jpg"]),
        ("**/[12].*", ["b/2.jpg", "b/c/1.gif"]),
        ("?/c", ["b/c/1.gif"]),
    ],
)
def test_patterns_are_matched_in_order(tree, pattern, expected):
    assert named(Inputs([str(tree / pattern)]), tree) == expected


def test_a_file_is_taken_whatever_its_name_also_with_signs_of_patterns(tree):
    odd = tree / "odd[1].data"
    odd.touch()
    inputs = Inputs([str(odd), str(tree / "note.txt")])
    assert named(inputs, tree) == ["odd[1].data", "note.txt"]
    assert inputs.root == str(tree)


def test_what_is_not_there_is_told(tree):
    with pytest.raises(DataError, match=r"none\.jpg does not exist"):
        Inputs([str(tree / "none.jpg")])
    with pytest.raises(DataError, match="matches no file"):
        Inputs([str(tree / "*.webp")])
    for address, command in (
        ("gs://bucket/x y", "gcloud storage cp -r 'gs://bucket/x y' ."),
        ("s3://bucket/x", "aws s3 cp --recursive s3://bucket/x ."),
        ("https://host.example/x.jpg", "curl -LO https://host.example/x.jpg"),
    ):
        with pytest.raises(DataError, match="is not a local path") as caught:
            Inputs([address])
        assert f"({command})" in str(caught.value)
    (tree / "my film.MP4").touch()
    with pytest.raises(DataError, match=r"is a video; .*ffmpeg -i '.*my film.MP4' frames/%06d.jpg"):
        Inputs([str(tree / "my film.MP4")])


# The journal


@settings(deadline=None)
@given(
    records=st.lists(st.dictionaries(st.text(), st.text() | st.integers()), max_size=6),
    share=st.floats(0, 1),
)
def test_wherever_a_journal_is_torn_its_whole_lines_stay(tmp_path_factory, records, share):
    path = tmp_path_factory.mktemp("journal") / "lines.jsonl"
    first = Journal(path)
    first.append(records)
    first.close()
    content = path.read_bytes()
    cut = content[: round(share * len(content))]
    path.write_bytes(cut)
    again = Journal(path)
    whole = cut.count(b"\n")
    assert list(again) == records[:whole]
    assert again.torn == len(cut) - len(b"".join(cut.splitlines(keepends=True)[:whole]))
    again.append(records[whole:])
    again.close()
    assert path.read_bytes() == content


def test_a_long_torn_line_is_cut(tmp_path):
    (tmp_path / "lines").write_bytes(b'{"a": 1}\n{"b": "' + b"x" * 200_000)
    journal = Journal(tmp_path / "lines")
    assert list(journal) == [{"a": 1}]
    journal.close()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    full = os.open("/dev/full", os.O_WRONLY)  # Linux's device that has no room.
    journal = Journal(tmp_path / "lines")
    monkeypatch.setattr(journal, "_file", full)
    with pytest.raises(DataError, match=r"lines cannot be written \(No space left on device\)"):
        journal.append([{"a": 1}])
    os.close(full)


def test_a_line_that_is_no_answer_is_named(tmp_path):
    (tmp_path / "lines").write_bytes(b'{"a": 1}\nnonsense\n{}\n')
    with pytest.raises(DataError, match=r"lines, line 2, is no answer"):
        list(Journal(tmp_path / "lines"))


@given(st.lists(st.sampled_from(["a.jpg", "a.png", "a.jpg_", "a", "b/a.jpg", "a.png.jpg"])))
def test_stems_differ_and_repeat(names):
    stems = []
    for _ in range(2):
        paths = PathSet()
        stems.append([paths.stem(name) for name in names])
    assert stems[0] == stems[1]
    assert len(set(stems[0])) == len(names)


# Answers into a folder, of a model that is made up


class Imagined:
    """Answers by the length of a file's name; what is called bad cannot be read."""

    trusted = tells_novelty = False

    def __init__(self):
        self.asked = []

    def stream(self, images, *, batch_size, top_k):
        for path in images:
            self.asked.append(os.path.basename(path))
            if "bad" in path:
                yield ImageError(f"image {path}", "is bad")
                continue
            index = len(path) % 3
            score = ClassScore(CLASSES[index], index, 0.5)
            found = index != 2
            box = (1.0, 2.0, 11.0, 22.0) if found else None
            fraction = (0.025, 0.1, 0.275, 1.1) if found else None
            yield Localization(score.label, index, 0.5, (score,), found, box, fraction, (20, 40))


SETTINGS = AnswerSettings("digest", 1, "/in")
PATHS = [f"/in/{'x' * (number % 5)}{number}{'bad' * (number % 7 == 3)}.jpg" for number in range(60)]


def answer(folder, localizer, paths=PATHS, form="jsonl", **options):
    sidecars = sidecars_of(form, draw=False)
    out = OutputFolder(folder, SETTINGS)
    try:
        counts = answer_into(out, localizer, paths, sidecars, batch_size=4, top_k=1, **options)
        return counts, list(out.answers), list(out.failures)
    finally:
        out.close()


def test_each_file_is_answered_about_once_however_often_it_is_stopped(tmp_path):
    _, expected, bad = answer(tmp_path / "whole", Imagined())
    assert [one["path"] for one in expected] == [path for path in PATHS if "bad" not in path]
    assert [one["reason"] for one in bad] == ["is bad"] * sum("bad" in path for path in PATHS)
    localizer = Imagined()

    def stopping(at):
        for place, path in enumerate(PATHS):
            if place == at:
                raise KeyboardInterrupt
            yield path

    for at in (0, 3, 17, 41):
        with pytest.raises(KeyboardInterrupt):
            answer(tmp_path / "parts", localizer, stopping(at))
    counts, answers, failures = answer(tmp_path / "parts", localizer)
    assert (answers, failures) == (expected, bad)
    assert counts.before == 40
    assert (counts.answered, counts.failed) == (len(expected), len(bad))
    localizer.asked.clear()
    counts, _, _ = answer(tmp_path / "parts", localizer, [*PATHS, *PATHS, "/in/new.jpg"])
    assert localizer.asked == ["new.jpg"]
    assert counts.before == len(PATHS)


@pytest.mark.parametrize("writes", [1, 2, 7, 20])
def test_after_kill_9_within_a_write_the_next_call_goes_on(tmp_path, writes):
    _, expected, bad = answer(tmp_path / "whole", Imagined())
    child = os.fork()
    if not child:  # It dies in the middle of a line, of which the file keeps the first half.
        left = [writes]

        def write(file, content):
            left[0] -= 1
            if left[0] == 0:
                os.write(file, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return os.write(file, content)

        outputs.os = SimpleNamespace(**{**vars(os), "write": write})
        answer(tmp_path / "killed", Imagined(), form="voc")
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    localizer = Imagined()
    counts, answers, failures = answer(tmp_path / "killed", localizer, form="voc")
    assert (answers, failures) == (expected, bad)
    assert len(localizer.asked) == len(PATHS) - counts.before
    assert len(list((tmp_path / "killed" / "Annotations").iterdir())) == len(expected)
    assert not [name for name in os.listdir(tmp_path / "killed") if "writing" in name]


def test_files_beside_answers_are_made_up_for_later(tmp_path):
    answer(tmp_path, Imagined())
    localizer = Imagined()
    _, answers, _ = answer(tmp_path, localizer, form="yolo")
    assert localizer.asked == []
    labels = {path.stem: path.read_text() for path in (tmp_path / "labels").iterdir()}
    assert len(labels) == len(answers)
    for record in answers:
        # Centre and size of 1..11 of 40 and 2..22 of 20, by hand.
        index = record["index"]
        line = f"{index} 0.150000000 0.600000000 0.250000000 1.000000000\n"
        assert labels[record["image"].removesuffix(".jpg")] == ("" if index == 2 else line)


def test_voc_files_hold_the_box_in_px(tmp_path):
    _, answers, _ = answer(tmp_path, Imagined(), form="voc")
    for record in answers:
        root = ElementTree.parse(tmp_path / "Annotations" / record["image"].replace("jpg", "xml"))
        assert root.findtext("filename") == record["image"]
        assert (root.findtext("size/width"), root.findtext("size/height")) == ("40", "20")
        sides = [
            root.findtext(f"object/bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        assert sides == (["1", "2", "11", "22"] if record["found"] else [None] * 4)
        assert root.findtext("object/name") == (record["label"] if record["found"] else None)


def test_coco_is_read_by_pycocotools(tmp_path, capsys):
    _, answers, _ = answer(tmp_path, Imagined())
    write_coco(tmp_path / "coco.json", answers, CLASSES)
    read = COCO(str(tmp_path / "coco.json"))
    capsys.readouterr()
    assert [read.imgs[at + 1]["file_name"] for at in range(len(answers))] == [
        one["image"] for one in answers
    ]
    for number, record in enumerate(answers, start=1):
        found = read.loadAnns(read.getAnnIds(imgIds=[number]))
        assert len(found) == record["found"]
        for one in found:
            assert one["bbox"] == [1, 2, 10, 20]
            assert read.cats[one["category_id"]]["name"] == record["label"]
            assert one["score"] == 0.5
    write_coco(tmp_path / "none.json", [], CLASSES)
    assert json.loads((tmp_path / "none.json").read_text())["images"] == []


def test_names_that_are_no_text_and_formulas_are_written(tmp_path):
    paths = ["/in/\udcff.jpg", "/in/=1+1.jpg", "/elsewhere/e.jpg"]
    _, answers, _ = answer(tmp_path, Imagined(), paths, form="voc")
    assert [one["image"] for one in answers] == ["\udcff.jpg", "=1+1.jpg", "elsewhere/e.jpg"]
    write_csv(tmp_path / "a.csv", answers, Imagined())
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["\\udcff.jpg", "'=1+1.jpg", "elsewhere/e.jpg"]


def test_answers_of_another_model_are_not_mixed(tmp_path):
    answer(tmp_path / "out", Imagined())
    with pytest.raises(DataError, match="made with another model; give another folder"):
        OutputFolder(tmp_path / "out", AnswerSettings("other", 1, "/in"))
    with pytest.raises(DataError, match="made with another --top-k"):
        OutputFolder(tmp_path / "out", AnswerSettings("digest", 2, "/in"))
    (tmp_path / "out" / "predict.json").write_text("{")
    with pytest.raises(DataError, match=r"predict\.json is damaged"):
        OutputFolder(tmp_path / "out", SETTINGS)
    (tmp_path / "out" / "predict.json").unlink()
    with pytest.raises(DataError, match=r"but no predict\.json"):
        OutputFolder(tmp_path / "out", SETTINGS)


def test_two_at_once_are_kept_apart(tmp_path):
    first = OutputFolder(tmp_path, SETTINGS)
    with pytest.raises(DataError, match="another process is writing"):
        OutputFolder(tmp_path, SETTINGS)
    first.close()
    OutputFolder(tmp_path, SETTINGS).close()


# The command, with a real model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run and a folder of images, one cut short; the run is opened once for all tests."""
    folder = tmp_path_factory.mktemp("predict")
    run = write_run(folder / "run", background="owl")
    write_novelty_of_photographs(run)
    (folder / "in" / "sub").mkdir(parents=True)
    for name, content in kinds().items():
        (folder / "in" / name).write_bytes(content)
    photograph(50).save(folder / "in" / "sub" / "photo.png")
    (folder / "in" / "cut.jpg").write_bytes(kinds()["photo.jpg"][:700])
    (folder / "in" / "readme.txt").touch()
    opened = Localizer.load(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Localizer, "open", lambda path, fastest: opened)
        yield SimpleNamespace(folder=folder, run=run, images=folder / "in", localizer=opened)


def run_predict(place, *arguments):
    return predict.main(["--model", str(place.run), *map(str, arguments)])


def test_a_folder_is_answered_drawn_and_reported(place, tmp_path, capsys):
    out = place.images / "answers"  # Its drawn pictures must not become images of the next call.
    for call in ("first", "second"):
        told_code = run_predict(
            place, place.images, "--out", out, "--format", "csv", "--draw", "--batch-size", "4"
        )
        assert told_code == 2
        told = capsys.readouterr().err
        assert "16 answered, 1 could not be read" in told
        assert "cut.jpg cannot be decoded" in told
        assert "1 files without an image's ending were left out" in told
        assert ("of them in earlier calls" in told) == (call == "second")
    records = {one["image"]: one for one in map(json.loads, (out / "predictions.jsonl").open())}
    assert len(records) == 16
    for name in ("turned6.jpg", "sub/photo.png", "sixteen.png"):
        found = place.localizer.predict(place.images / name)
        assert records[name]["label"] == found.label
        assert (records[name]["height"], records[name]["width"]) == found.size
        if found.found:
            assert records[name]["box"] == pytest.approx(found.box, abs=0.02)
        else:
            assert records[name]["box"] is None
        stem = name.rpartition(".")[0]
        with Image.open(out / "drawn" / f"{stem}.jpg") as drawn:
            assert drawn.width % found.size[1] == 0
    with (out / "predictions.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows.keys() == records.keys()
    assert {row["found"] for row in rows.values()} <= {"true", "false"}
    for name, row in rows.items():
        assert row["known"] == str(records[name]["known"]).lower()
        assert float(row["novelty"]) == records[name]["novelty"]


def test_few_are_printed_as_a_table_and_many_as_lines(place, monkeypatch, capsys):
    images = [place.images / "exact.png", place.images / "still.gif"]
    assert run_predict(place, *images) == 0
    told = capsys.readouterr().out
    assert "exact.png" in told
    assert "56 x 40" in told
    monkeypatch.setattr(work, "FEW", 1)
    assert run_predict(place, *images) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == ["exact.png", "still.gif"]
    assert run_predict(place, *images, place.images / "cut.jpg", "--format", "csv") == 2
    told = capsys.readouterr()
    assert [row["image"] for row in csv.DictReader(told.out.splitlines())] == [
        "exact.png",
        "still.gif",
    ]
    assert "cut.jpg cannot be decoded" in told.err
    assert "1 of 3 could not be read" in told.err


def test_yolo_and_coco_folders_name_their_classes(place, tmp_path, capsys):
    for form in ("yolo", "coco", "voc"):
        assert run_predict(place, place.images / "*.png", "--out", tmp_path, "--format", form) == 0
    # Images of the class at the end show no object.
    assert (tmp_path / "classes.txt").read_text().split() == CLASSES[:2]
    assert "nc: 2" in (tmp_path / "data.yaml").read_text()
    content = json.loads((tmp_path / "predictions_coco.json").read_text())
    assert [one["name"] for one in content["categories"]] == CLASSES
    stems = sorted(path.stem for path in place.images.glob("*.png"))
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == stems
    assert sorted(path.stem for path in (tmp_path / "Annotations").iterdir()) == stems


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jpg"], "missing.jpg does not exist"),
        ([".", "--draw"], "give --out"),
        ([".", "--format", "voc"], "give --out"),
        ([".", "--batch-size", "0"], "must be at least 1"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    try:
        code = run_predict(place, *arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_a_call_tells_of_the_images_that_it_names(tmp_path):
    counts, _, _ = answer(tmp_path, Imagined(), PATHS)
    good = next(path for path in PATHS if "bad" not in path)
    bad = next(path for path in PATHS if "bad" in path)
    steps = []
    localizer = Imagined()
    for paths, expected in (([good], (1, 0, 1)), ([bad, bad, "/in/new.jpg"], (1, 1, 1))):
        steps.clear()
        counts, _, _ = answer(tmp_path, localizer, paths, advance=steps.append)
        assert (counts.answered, counts.failed, counts.before) == expected
        assert sum(steps) == len(paths)


def test_the_folder_of_answers_is_none_of_images(place, capsys):
    assert run_predict(place, place.images, "--out", place.images) == 2
    told = capsys.readouterr().err
    assert "both a folder of images and --out" in told
    file = place.images / "readme.txt"
    assert run_predict(place, place.images, "--out", file) == 2
    assert "cannot be made a folder" in capsys.readouterr().err


def test_what_a_folder_held_before_stays(place, tmp_path, capsys):
    image = place.images / "exact.png"
    for theirs, form in (
        ("data.yaml", "yolo"),
        ("labels/exact.txt", "yolo"),
        ("predictions.csv", "csv"),
        ("failures.jsonl", "jsonl"),
    ):
        out = tmp_path / theirs.replace("/", "_")
        (out / theirs).parent.mkdir(parents=True)
        (out / theirs).write_text("theirs")
        assert run_predict(place, image, "--out", out, "--format", form) == 2
        told = capsys.readouterr().err
        assert str(out / theirs.partition("/")[0]) in told
        assert "give another folder to --out" in told
        assert [path for path in out.rglob("*") if path.is_file()] == [out / theirs]
    # Beside answers in another format, too; what predict wrote itself is replaced.
    out = tmp_path / "data.yaml"
    assert run_predict(place, image, "--out", out) == 0
    assert run_predict(place, image, "--out", out, "--format", "yolo") == 2
    (out / "data.yaml").unlink()
    for _ in range(2):
        assert run_predict(place, image, "--out", out, "--format", "yolo") == 0
    (out / "data.yaml").write_text("edited")
    assert run_predict(place, image, "--out", out, "--format", "yolo") == 2
    assert (out / "data.yaml").read_text() == "edited"


def test_names_as_long_as_the_disk_takes_them(place, tmp_path):
    """255 bytes, the most on common disks; two of them differ by the ending alone."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    names = [f"{'x' * 250}.png", f"{'x' * 250}.jpg", f"{'ä' * 125}.png", "y" * 255]
    for name in names:
        photograph(1).save(inputs / name, "PNG")
    for form, folder in (("yolo", "labels"), ("voc", "Annotations")):
        arguments = [inputs / name for name in names]
        assert run_predict(place, *arguments, "--out", tmp_path / form, "--format", form) == 0
        written = os.listdir(tmp_path / form / folder)
        assert len(written) == len(names)
        assert not [name for name in written if "writing" in name]


def test_a_list_may_name_files_elsewhere(place, tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"{place.images / 'exact.png'}\n")
    assert run_predict(place, "--list", tmp_path / "list.txt", "--format", "jsonl") == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert record["image"] == str(place.images / "exact.png").lstrip("/")


def test_what_gave_no_image_is_told(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run_predict(place, tmp_path / "empty", place.images / "exact.png") == 0
    assert f"{tmp_path / 'empty'} holds no image" in capsys.readouterr().err
    assert run_predict(place, tmp_path / "empty") == 2
    assert f"there is no image in {tmp_path / 'empty'}" in capsys.readouterr().err


def test_lists_of_other_editors_are_read_or_refused(tree):
    marked = tree / "marked.txt"
    marked.write_bytes(b"\xef\xbb\xbfa.bmp\r\nb/2.jpg\r\n")
    assert named(Inputs([], lists=[str(marked)]), tree) == ["a.bmp", "b/2.jpg"]
    wide = tree / "wide.txt"
    wide.write_text("a.bmp\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"wide\.txt is no UTF-8 text"):
        list(Inputs([], lists=[str(wide)]))


def test_what_is_no_file_or_too_large_costs_its_own_line_alone(place, tmp_path, capsys):
    make_unfit(tmp_path)
    photograph(1).save(tmp_path / "good.png")
    (tmp_path / "large.png").write_bytes(kinds()["exact.png"] + bytes(60_000))
    junk = tmp_path / "junk.png"
    junk.touch()
    os.truncate(junk, 2**28)
    out = tmp_path / "answers"
    assert run_predict(place, tmp_path, "--out", out, "--max-bytes", 50_000) == 2
    assert "1 answered, 6 could not be read" in capsys.readouterr().err
    told = {one["image"]: one["reason"] for one in map(json.loads, (out / "failures.jsonl").open())}
    assert told.pop("large.png").endswith("bytes, and at most 50,000 are read)")
    # Of a file of zeros no more is read than tells that it is no image.
    assert told.pop("junk.png").startswith("is not an image of a known format")
    assert told.pop("sparse.png").startswith("cannot be read (it has 32,212,254,720 bytes, and")
    assert told == {n: f"cannot be read ({why})" for n, why in UNFIT.items() if n != "sparse.png"}
    with pytest.raises(ImageError, match=r"pipe\.png cannot be read \(it is a pipe, no file\)"):
        place.localizer.predict(tmp_path / "pipe.png")
