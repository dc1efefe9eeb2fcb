"""Names from annotation files never lead out of the data folder; text of any mark and scheme."""

import os

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.data import files
from loc_keras.data.files import OutsideError, join_inside
from loc_keras.errors import DataError


def test_names_are_joined_and_normalised(tmp_path):
    root = str(tmp_path)
    assert join_inside(root, "a/../b c.jpg") == os.path.join(root, "b c.jpg")
    assert join_inside(root, "sub\\é'\".png") == os.path.join(root, "sub", "é'\".png")
    inner = os.path.join(root, "labels")
    assert join_inside(inner, "../images/a.jpg", root=root) == os.path.join(root, "images/a.jpg")
    assert join_inside("ram://data", "a/b.jpg") == "ram://data/a/b.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "a/../../b",
        "/etc/passwd",
        "C:/a.jpg",
        "C:\\a.jpg",
        "gs://other/a",
        "",
        " ",
        "a\0b",
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    for root in (str(tmp_path), "ram://data/set", "."):
        with pytest.raises(OutsideError):
            join_inside(root, name)


def test_links_may_lead_within_but_not_out(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"x")
    (root / "in.jpg").symlink_to(root / "a.jpg")
    (root / "out.jpg").symlink_to(other / "a.jpg")
    (root / "folder").symlink_to(other)
    assert join_inside(str(root), "in.jpg").endswith("in.jpg")
    for name in ("out.jpg", "folder/a.jpg"):
        with pytest.raises(OutsideError, match="is a link that leads out"):
            join_inside(str(root), name)
    # The data folder itself may be reached through a link.
    (tmp_path / "door").symlink_to(root)
    assert join_inside(str(tmp_path / "door"), "a.jpg").endswith("door/a.jpg")


def test_a_sibling_of_a_like_name_is_outside(tmp_path):
    (tmp_path / "set-private").mkdir()
    with pytest.raises(OutsideError):
        join_inside(str(tmp_path / "set"), "../set-private/a.jpg")


@settings(deadline=None, max_examples=300)
@given(name=st.text(st.sampled_from("./\\ab~: "), min_size=1, max_size=12))
def test_whatever_the_name_the_path_is_inside(tmp_path_factory, name):
    root = str(tmp_path_factory.getbasetemp())
    try:
        joined = join_inside(root, name)
    except OutsideError:
        return
    assert os.path.commonpath([os.path.realpath(joined), os.path.realpath(root)]) == (
        os.path.realpath(root)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_any_mark(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("ä,1\n".encode(encoding))
    assert files.read_text(str(tmp_path / "a.csv")) == "ä,1\n"


def test_text_of_another_encoding_names_the_line(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,1\nb\xe9,2\n")
    with pytest.raises(DataError, match="line 2 has the byte 0xe9; save it as UTF-8"):
        files.read_text(str(tmp_path / "a.csv"))
    with pytest.raises(DataError, match="does not exist"):
        files.read_text(str(tmp_path / "none.csv"))


def test_remote_filesystems_work_alike():
    folder = "ram://test_files"
    tf.io.gfile.makedirs(f"{folder}/sub")
    for name in ("a.txt", "sub/b.txt"):
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
            file.write(b"0123456789")
    assert files.is_file(f"{folder}/a.txt") and not files.is_file(f"{folder}/sub")
    assert files.is_folder(folder) and not files.is_folder(f"{folder}/none")
    assert files.listed(folder) == ["a.txt", "sub"]
    assert files.walk(folder) == [f"{folder}/a.txt", f"{folder}/sub/b.txt"]
    assert files.matching(folder, "*.txt") == [f"{folder}/a.txt"]
    assert files.file_size(f"{folder}/a.txt") == 10
    assert files.read_bytes(f"{folder}/a.txt", 3, 4) == b"3456"
    with pytest.raises(OSError):
        files.read_bytes(f"{folder}/none.txt")


def test_an_unknown_scheme_is_an_absent_folder_or_a_sentence():
    try:
        assert not files.is_folder("nowhere://x")
    except DataError as error:
        assert "nowhere://x cannot be opened" in str(error)
    with pytest.raises(DataError, match=r"nowhere://x/a\.csv"):
        files.read_text("nowhere://x/a.csv")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.csv", "a/../../*", "gs://other/*", ""])
def test_patterns_that_lead_out_or_are_none(tmp_path, pattern):
    with pytest.raises(OutsideError):
        files.matching(str(tmp_path), pattern)
