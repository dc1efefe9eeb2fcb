"""Data sets in archives: read where they lie, unpacked once, and nothing outside or too large."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.converted import drawn, save
from helpers.tool_files import DRAWN, SIZES, labelme

from loc_keras.cli.data_source import DataSource, read_folder
from loc_keras.config.load import config_from_tree
from loc_keras.data import files as archives
from loc_keras.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """A LabelMe data set of two pictures, in a folder within a folder."""
    for stem, (_, box) in DRAWN.items():
        save(tmp_path / "set" / "photos" / f"{stem}.png", drawn(*SIZES[stem], map(int, box)))
        (tmp_path / "set" / "photos" / f"{stem}.json").write_bytes(labelme(stem))
    return tmp_path / "set"


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in sorted(folder.rglob("*.*")):
            file.write(one, one.relative_to(folder))
    return path


def tarred(folder, path):
    with tarfile.open(path, "w:gz") as file:
        file.add(folder / "photos", "photos")
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_read_as_its_folder(folder, tmp_path, monkeypatch, pack):
    monkeypatch.chdir(tmp_path)
    path = str(pack(folder, tmp_path / ("x.zip" if pack is zipped else "x.tar.gz")))
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    reading = read_folder(path, [cache], name="x")
    assert reading.guess.format == "labelme"
    assert reading.guess.path == path
    records = reading.records.splits["train"]
    boxes = np.round(records.boxes * records.sizes[:, [1, 0, 1, 0]]).tolist()
    assert sorted(map(tuple, boxes)) == sorted(box for _, box in DRAWN.values())
    # The settings alone find it again, also after the cache was emptied.
    tree = {"data": {"source": {"format": "labelme", "path": path}}}
    again = DataSource(config_from_tree(tree, [cache], origin="test", name="x"))
    assert len(again.annotations.objects["train"]) == 2


def test_it_is_unpacked_once_for_its_content(folder, tmp_path):
    path = zipped(folder, tmp_path / "x.zip")
    first = archives.unpacked(str(path), str(tmp_path / "cache"))
    (Path(first) / "mark").touch()
    archives._content.cache_clear()
    assert archives.unpacked(str(path), str(tmp_path / "cache")) == first
    assert (Path(first) / "mark").exists()
    assert archives.unpacked(f"{path}/photos", str(tmp_path / "cache")) == f"{first}/photos"
    (folder / "photos" / "new.json").write_bytes(b"{}")
    zipped(folder, path)
    other = archives.unpacked(str(path), str(tmp_path / "cache"))
    assert other != first and (Path(other) / "photos" / "new.json").exists()
    assert len(os.listdir(tmp_path / "cache" / "archives")) == 2


def test_what_is_no_archive_stays_as_it_is(tmp_path):
    (tmp_path / "photos.zip").mkdir()
    for path in (str(tmp_path), str(tmp_path / "photos.zip"), "gs://bucket/x.zip", "none.zip"):
        assert archives.unpacked(path, "cache") == path


@pytest.mark.parametrize("name", ["../up.txt", "/etc/up.txt", "a/../../up.txt", "C:/up.txt"])
def test_no_name_leads_out(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(DataError, match=r"x\.zip is not unpacked: "):
        archives.unpacked(str(path), str(tmp_path / "cache"))
    assert not (tmp_path / "up.txt").exists() and not list(tmp_path.glob("cache/archives/*"))


def test_links_are_not_made(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(link)
        inside = tarfile.TarInfo("link/passwd")
        inside.size = 1
        file.addfile(inside, io.BytesIO(b"x"))
    content = Path(archives.unpacked(str(path), str(tmp_path / "cache")))
    assert not (content / "link").is_symlink()
    assert (content / "link" / "passwd").read_bytes() == b"x"


def test_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LEAST_ALLOWED", 2**16)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.txt", bytes(2**21))
    with pytest.raises(DataError, match=r"holds more than .* bytes"):
        archives.unpacked(str(path), str(tmp_path / "cache"))
    assert not list(tmp_path.glob("cache/archives/*"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_broken_archive_is_a_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(DataError, match=r"archive .* cannot be read: .*; unpack it yourself\."):
        archives.unpacked(str(tmp_path / name), str(tmp_path / "cache"))


def test_an_archive_within_a_folder_is_pointed_to(folder, tmp_path):
    (tmp_path / "download").mkdir()
    zipped(folder, tmp_path / "download" / "labels.zip")
    with pytest.raises(DataError, match=r"holds the archive labels\.zip; --data .* reads"):
        read_folder(str(tmp_path / "download"), [], name="x")
