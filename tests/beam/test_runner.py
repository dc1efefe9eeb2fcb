"""Names of images and the command line of `predict --runner`; none of it needs Apache Beam."""

import json
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loc_keras import predict
from loc_keras.bulk.inputs import Inputs, common_root, image_name, listed_path
from loc_keras.bulk.outputs import AnswerSettings, OutputFolder
from loc_keras.commands import predict as work
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


def test_without_a_runner_lists_are_read_as_well(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    (tmp_path / "names.txt").write_text("\nin/a.jpg\n/elsewhere/b.jpg\n")
    inputs = Inputs([], lists=[str(tmp_path / "names.txt")])
    assert list(inputs) == [str(tmp_path / "in" / "a.jpg"), "/elsewhere/b.jpg"]
    assert inputs.root == str(tmp_path)
    with pytest.raises(DataError, match="is no file"):
        Inputs([], lists=[str(tmp_path)])


# The command line

RUNNER = ["--model", "m", "--runner", "FlinkRunner", "--out", "o"]


def test_what_is_not_ours_goes_to_the_runner():
    args = parse([*RUNNER, "--flink_master=host:8081", "a.jpg", "--parallelism=8", "--flag"])
    assert args.runner_options == ["--flink_master=host:8081", "--parallelism=8", "--flag"]
    assert args.images == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "m", "--runner", "DirectRunner", "a.jpg"], "give --out"),
        ([*RUNNER, "a.jpg", "--draw"], "leave --draw, --explain and --format out"),
        ([*RUNNER, "a.jpg", "--format", "coco"], "leave --draw, --explain and --format out"),
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
        parse(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_without_beam_the_line_that_installs_it_is_told(monkeypatch, capsys):
    without = lambda name: None if name == "apache_beam" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(work, "find_spec", without)
    assert predict.main([*RUNNER, "a.jpg"]) == 2
    assert "python -m pip install -r requirements-beam.txt" in capsys.readouterr().err


def test_answers_from_a_runner_are_not_continued_locally(tmp_path):
    made = {"model": "digest", "top_k": 5, "root": "/in", "runner": "FlinkRunner", "answered": 3}
    (tmp_path / "predict.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match="holds answers from a runner"):
        OutputFolder(tmp_path, AnswerSettings("digest", 5, "/in"))
