"""What `predict --runner` does before a runner is asked and after; none of it needs Apache Beam."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loc_keras import predict
from loc_keras.beam.worker import FOLDER, LIST, LOCAL, PATTERN, Source, records_of, sources_of
from loc_keras.bulk.inputs import Inputs, common_root, image_name, listed_path
from loc_keras.bulk.outputs import Made, OutFolder
from loc_keras.errors import DataError
from loc_keras.predict import parse

# Names


@pytest.mark.parametrize(
    ("path", "root", "name"),
    [
        ("/data/a/b.jpg", "/data", "a/b.jpg"),
        ("/other/b.jpg", "/data", "other/b.jpg"),
        ("/datafull/b.jpg", "/data", "datafull/b.jpg"),
        ("gs://bucket/a/b.jpg", "gs://bucket/a", "b.jpg"),
        ("gs://bucket/ab.jpg", "gs://bucket/a", "gs://bucket/ab.jpg"),
        ("gs://bucket/b.jpg", "/data", "gs://bucket/b.jpg"),
        ("/data/b.jpg", "gs://bucket", "data/b.jpg"),
    ],
)
def test_images_are_named_from_the_root_on(path, root, name):
    assert image_name(path, root) == name


@pytest.mark.parametrize(
    ("folders", "root"),
    [
        (["/data/a", "/data/b"], "/data"),
        (["gs://bucket/a/b", "gs://bucket/a/c"], "gs://bucket/a"),
        (["gs://bucket/ab", "gs://bucket/ac"], "gs://bucket"),
        (["gs://one", "gs://two"], "/"),
        (["gs://one/data", "/data"], "/"),
        (["gs://one/data/"], "gs://one/data"),
    ],
)
def test_the_root_holds_all_folders(folders, root):
    assert common_root(folders) == root


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=3), min_size=1, max_size=4))
def test_names_below_the_root_lead_back_to_their_paths(parts):
    for base in ("/top", "s3://bucket"):
        folders = ["/".join([base, *part]) for part in parts]
        root = common_root(folders)
        for folder in folders:
            assert f"{root}/{image_name(f'{folder}/x.jpg', root)}" == f"{folder}/x.jpg"


@pytest.mark.parametrize(
    ("line", "folder", "path"),
    [
        ("a/b c.jpg\r\n", "/lists", "/lists/a/b c.jpg"),
        ("../b.jpg\n", "/lists", "/b.jpg"),
        ("/x/b.jpg", "/lists", "/x/b.jpg"),
        ("gs://bucket/b.jpg\n", "/lists", "gs://bucket/b.jpg"),
        ("a.jpg\n", "gs://bucket/lists", "gs://bucket/lists/a.jpg"),
        ("  \n", "/lists", None),
    ],
)
def test_a_line_of_a_list_names_a_path(line, folder, path):
    assert listed_path(line, folder) == path


def test_sources_are_told_apart_by_what_there_is(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    (tmp_path / "names.txt").write_text("in/a.jpg\n")
    there = {"gs://b/x/1.jpg", "gs://b/x/*.jpg", "gs://b/y/**", str(tmp_path / "names.txt")}
    asked = ["gs://b/x/1.jpg", "gs://b/x/*.jpg", "gs://b/y/"]
    assert sources_of(asked, [], there.__contains__) == (
        [
            Source(PATTERN, "gs://b/x/1.jpg"),
            Source(PATTERN, "gs://b/x/*.jpg"),
            Source(FOLDER, "gs://b/y"),
        ],
        "gs://b",
    )
    folder, listed = str(tmp_path / "in"), str(tmp_path / "names.txt")
    assert sources_of([folder], [listed], there.__contains__) == (
        [Source(LOCAL, folder), Source(LIST, listed)],
        str(tmp_path),
    )
    with pytest.raises(DataError, match=r"gs://b/none\.jpg matches no file"):
        sources_of(["gs://b/none.jpg"], [], there.__contains__)
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        sources_of([], ["none.txt"], there.__contains__)


def test_without_a_runner_lists_are_read_as_well(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    (tmp_path / "names.txt").write_text("\nin/a.jpg\n/elsewhere/b.jpg\n")
    inputs = Inputs([], lists=[str(tmp_path / "names.txt")])
    assert list(inputs) == [str(tmp_path / "in" / "a.jpg"), "/elsewhere/b.jpg"]
    assert inputs.root == str(tmp_path)
    with pytest.raises(DataError, match="is no file"):
        Inputs([], lists=[str(tmp_path)])


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
    }
    assert second == {"image": "b.jpg", "path": "/b.jpg", "reason": "is empty"}
    assert (third["label"], third["found"], third["box"]) == ("nothing", False, None)


# The command line

RUNNER = ["--model", "m", "--runner", "FlinkRunner", "--out", "o"]


def test_what_is_not_ours_goes_to_the_runner():
    args = parse([*RUNNER, "--flink_master=host:8081", "a.jpg", "--parallelism=8", "--flag"], None)
    assert args.runner_options == ["--flink_master=host:8081", "--parallelism=8", "--flag"]
    assert args.images == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "m", "--runner", "DirectRunner", "a.jpg"], "give --out"),
        ([*RUNNER, "a.jpg", "--draw"], "leave --draw and --format out"),
        ([*RUNNER, "a.jpg", "--format", "coco"], "leave --draw and --format out"),
        ([*RUNNER, "--parallelism", "8", "a.jpg"], "write --parallelism=VALUE"),
        ([*RUNNER, "a.jpg", "-p=8"], "written --name=value"),
        ([*RUNNER, "a.jpg", "--min-batch-size", "64"], "larger than --batch-size"),
        (RUNNER, "or --list FILE"),
        (["--model", "m", "a.jpg", "--parallelism=8"], "unrecognized arguments: --parallelism=8"),
        (["--model", "m", "a.jpg", "--shards", "2"], "--shards is for --runner"),
        (["--model", "m", "a.jpg", "--max-bytes", "0"], "must be at least 1"),
    ],
)
def test_a_wrong_command_line_is_told(capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        parse(arguments, None)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_without_beam_the_line_that_installs_it_is_told(monkeypatch, capsys):
    without = lambda name: None if name == "apache_beam" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(predict, "find_spec", without)
    assert predict.main([*RUNNER, "a.jpg"]) == 2
    assert "python -m pip install -r requirements-beam.txt" in capsys.readouterr().err


def test_answers_from_a_runner_are_not_continued_locally(tmp_path):
    made = {"model": "digest", "top_k": 5, "root": "/in", "runner": "FlinkRunner", "answered": 3}
    (tmp_path / "predict.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match="holds answers from a runner"):
        OutFolder(tmp_path, Made("digest", 5, "/in"))
