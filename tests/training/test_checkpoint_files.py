"""Checkpoints on disk: whole or absent, told from torn ones, the last few kept."""

import errno
import hashlib
import os
import shutil
import subprocess

import numpy as np
import pytest

from loc_keras.training import checkpoint_files
from loc_keras.training.checkpoint_files import (
    CheckpointError,
    begin_checkpoint,
    checkpoint_name,
    checkpoints_in,
    end_checkpoint,
    models_in,
    newest_checkpoint,
    prune,
    put_back,
    read_checkpoint,
)

ARRAYS = {
    "model/0000/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/0001/seed": np.array([7, 2**32 - 1], np.uint32),
    "optimizer/0000/iteration": np.array(41, np.int64),
}


def write_checkpoint(folder, name, arrays, state, models=()):
    return end_checkpoint(begin_checkpoint(folder, name, models), name, arrays, state)


def write(folder, step, **state):
    name = checkpoint_name(step, epoch_end=False)
    return write_checkpoint(folder, name, ARRAYS, {"step": step, **state})


def names(folder):
    return [path.name for path in checkpoints_in(folder)]


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    values = {"peak": 0.1, "none": None, "inf": float("inf"), "rows": [{"a": 1 / 3}]}
    found = read_checkpoint(write(tmp_path, 12, **values))
    assert found.state == {"step": 12, **values}
    assert set(found.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()


def test_sums_are_those_of_other_programs(tmp_path):
    path = write(tmp_path, 1)
    listed = dict(line.split("  ")[::-1] for line in (path / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {"arrays.safetensors", "state.json"}
    for name, digest in listed.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=path, check=True)


def test_names_sort_as_they_are_written(tmp_path):
    written = [
        checkpoint_name(9, epoch_end=False),
        checkpoint_name(10, epoch_end=False),
        checkpoint_name(10, epoch_end=True),
        checkpoint_name(11, epoch_end=False),
        checkpoint_name(100_000_000, epoch_end=False),
    ]
    assert written[2] == "step-00000010-epoch-end"
    assert sorted(written[:4]) == written[:4]
    for name in written:
        write_checkpoint(tmp_path, name, ARRAYS, {})
    assert len(names(tmp_path)) == 5


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "empty"])
def test_a_torn_checkpoint_is_told_and_the_one_before_taken(tmp_path, name, damage):
    write(tmp_path, 1)
    torn = write(tmp_path, 2) / name
    content = bytearray(torn.read_bytes())
    if damage == "missing":
        torn.unlink()
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        torn.write_bytes(content)
    else:
        torn.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    said = []
    found = newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found.state["step"] == 1
    (sentence,) = said
    assert "step-00000002" in sentence
    assert "the checkpoint before it is taken" in sentence
    # It is put aside, so that the run can write one of that name again.
    assert names(tmp_path) == ["step-00000001"]
    assert newest_checkpoint(tmp_path, said.append) is not None
    assert len(said) == 1


def test_without_a_whole_one_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path / "absent", print) is None
    (write(tmp_path, 1) / "state.json").unlink()
    said: list[str] = []
    assert newest_checkpoint(tmp_path, said.append) is None
    assert said[-1] == "no checkpoint is whole, so the training begins anew."


def test_the_last_few_are_kept_and_halves_are_swept(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step)
    (tmp_path / ".999-writing-step-00000006").mkdir()
    (tmp_path / ".lock").touch()
    prune(tmp_path, keep=2)
    assert sorted(os.listdir(tmp_path)) == [".lock", "step-00000004", "step-00000005"]


def test_one_of_the_same_name_is_replaced(tmp_path):
    write(tmp_path, 3, rate=1.0)
    write(tmp_path, 3, rate=0.5)
    assert names(tmp_path) == ["step-00000003"]
    assert read_checkpoint(tmp_path / "step-00000003").state["rate"] == 0.5


def test_models_stay_as_they_were_and_come_back(tmp_path):
    model = tmp_path / "best.keras"
    model.write_bytes(b"at step 5")
    path = write_checkpoint(tmp_path / "c", "step-00000005", ARRAYS, {}, [model])
    newer = tmp_path / "newer"
    newer.write_bytes(b"at step 6")
    os.replace(newer, model)  # As `written_aside` does.
    saved = read_checkpoint(path)
    (kept,) = models_in(saved)
    put_back(kept, model)
    assert model.read_bytes() == b"at step 5"
    put_back(kept, model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.keras", "c"]


def test_models_are_those_of_the_moment_it_was_begun(tmp_path):
    model, newer = tmp_path / "best.keras", tmp_path / "newer"
    model.write_bytes(b"at step 5")
    aside = begin_checkpoint(tmp_path / "c", "step-00000005", [model])
    newer.write_bytes(b"at step 6")
    os.replace(newer, model)
    saved = read_checkpoint(end_checkpoint(aside, "step-00000005", ARRAYS, {}))
    assert [path.read_bytes() for path in models_in(saved)] == [b"at step 5"]


@pytest.mark.parametrize("after", [0, 10, 300])
def test_a_full_disk_is_told_and_costs_nothing(tmp_path, monkeypatch, after):
    """A disk that takes short writes at first, and then none."""
    write(tmp_path, 1)
    taken = 0

    def write_some(handle, content):
        nonlocal taken
        if taken >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken += 5
        return real(handle, bytes(content[:5]))

    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files.os, "write", write_some)
        with pytest.raises(CheckpointError, match=r"step-00000002.*No space left.*free some space"):
            write(tmp_path, 2)
    assert os.listdir(tmp_path) == ["step-00000001"]
    read_checkpoint(tmp_path / "step-00000001")


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(
        checkpoint_files.os, "write", lambda handle, content: real(handle, bytes(content[:7]))
    )
    found = read_checkpoint(write(tmp_path, 4))
    assert found.arrays["model/0000/kernel"].tobytes() == ARRAYS["model/0000/kernel"].tobytes()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs to mount a file system")
def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        write(disk, 1)
        large = {"model/0000/kernel": np.zeros(100_000, np.float32)}
        with pytest.raises(CheckpointError, match="No space left"):
            write_checkpoint(disk, "step-00000002", large, {})
        assert names(disk) == ["step-00000001"]
        read_checkpoint(disk / "step-00000001")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
