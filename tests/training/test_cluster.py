"""Which workers there are: TF_CONFIG, the launcher, and what runs on clusters starts with."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from ruamel.yaml import YAML

from loc_keras import train_workers
from loc_keras.cli.console import run_command
from loc_keras.errors import TrainingError, WorkerLostError
from loc_keras.train_workers import core_parts, free_ports, run_workers
from loc_keras.training.cluster import cluster_from_environment, tf_config
from loc_keras.training.distribution import ALONE, distribution

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ["a:1", "b:2", "c:3"]


def environment(cluster, task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_no_other_worker_is_no_cluster():
    assert cluster_from_environment({}) is None
    assert cluster_from_environment({"TF_CONFIG": " "}) is None
    alone = environment({"worker": ["a:1"]}, {"type": "worker", "index": 0})
    assert cluster_from_environment(alone) is None


def test_chief_comes_first():
    # The order and the chief are those of TensorFlow's documentation of TF_CONFIG.
    hosts = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    chief = cluster_from_environment(environment(hosts, {"type": "chief", "index": 0}))
    second = cluster_from_environment(environment(hosts, {"type": "worker", "index": 1}))
    assert chief.workers == second.workers == tuple(HOSTS)
    assert (chief.index, chief.is_chief) == (0, True)
    assert (second.index, second.is_chief) == (2, False)


def test_worker_zero_is_the_chief_where_none_is_named(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(HOSTS, 0))
    assert cluster_from_environment(os.environ).is_chief
    # TensorFlow reads the same from what the launcher sets.
    assert tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict() == {
        "worker": HOSTS
    }


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("{", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"cluster": {"worker": ["a", "b"]}, "task": {"index": "x"}}', "cannot be understood"),
        (json.dumps({"cluster": {"worker": HOSTS}}), "no task 0"),
        (tf_config(HOSTS, 3), "worker 3, which its cluster does not list"),
        (json.dumps({"cluster": {"worker": HOSTS, "ps": ["p:1"]}}), "type ps"),
        (json.dumps({"cluster": {"chief": HOSTS}}), "several chiefs"),
    ],
)
def test_faults_of_tf_config_are_one_sentence(said, sentence):
    with pytest.raises(TrainingError, match=sentence):
        cluster_from_environment({"TF_CONFIG": said})


def test_strategy_without_its_devices_is_refused():
    two = {"TF_CONFIG": tf_config(HOSTS[:2], 0)}
    with pytest.raises(TrainingError, match="names no other worker"):
        distribution("multi_worker", batch_size=4, environment={})
    with pytest.raises(TrainingError, match="would all write the same run"):
        distribution("single", batch_size=4, environment=two)
    with pytest.raises(TrainingError, match=r"batch_size 5 .* multiple of 2, such as 4 or 6"):
        distribution("auto", batch_size=5, environment=two)


def test_one_device_needs_no_strategy():
    for strategy in ("auto", "single", "mirrored"):
        assert distribution(strategy, batch_size=5, environment={}) is ALONE


def test_ports_differ_and_cores_are_neighbours():
    assert len(set(free_ports(5))) == 5
    assert core_parts([3, 4, 6, 7, 9], 2) == [[3, 4], [6, 7]]
    with pytest.raises(TrainingError, match="there are 1 for 2 workers"):
        core_parts([0], 2)


CHILD = """
import json, os, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print("worker", task, flush=True)
if task == int(sys.argv[1]):
    print("reason of", task, file=sys.stderr)
    sys.exit(3)
time.sleep(float(sys.argv[2]))
"""


def test_launcher_prints_the_chief_alone_and_ends_well(capfd):
    assert run_workers([sys.executable, "-c", CHILD, "-1", "0"], 3) == 0
    assert capfd.readouterr().out.splitlines() == ["worker 0"]


def test_launcher_ends_all_when_one_fails_and_says_which(capfd):
    # The others would sleep for an hour.
    assert run_workers([sys.executable, "-c", CHILD, "1", "3600"], 3) == 3
    told = capfd.readouterr().err
    assert "reason of 1" in told
    assert "worker 1 of 3 ended with code 3" in told


LOST_ONCE = """
import os, signal, sys, time
from pathlib import Path
place = Path(sys.argv[1])
index = "1" if '"index": 1' in os.environ["TF_CONFIG"] else "0"
with (place / index).open("a") as file:
    file.write("x")
starts = len((place / index).read_text())
if index == "1" and starts <= int(sys.argv[2]):
    # The launcher ends the other one, which must have counted its start by then.
    while not (place / "0").exists() or len((place / "0").read_text()) < starts:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
if index == "0" and starts <= int(sys.argv[2]):
    # What the others do when one is gone, which they notice after it is.
    while not (place / "1").exists() or len((place / "1").read_text()) < starts:
        time.sleep(0.05)
    time.sleep(1)
    sys.exit(75)
"""


@pytest.mark.parametrize(("lost", "restarts", "code"), [(1, 1, 0), (2, 1, 137), (1, 0, 137)])
def test_launcher_starts_all_again_where_one_was_lost(tmp_path, capfd, lost, restarts, code):
    command = [sys.executable, "-c", LOST_ONCE, str(tmp_path), str(lost)]
    assert run_workers(command, 2, restarts=restarts) == code
    starts = [len((tmp_path / index).read_text()) for index in "01"]
    assert starts == [1 + restarts] * 2
    assert capfd.readouterr().err.count("all are started again") == restarts


BOTH_END = """
import json, os, sys, time
from pathlib import Path
place, codes = Path(sys.argv[1]), [int(code) for code in sys.argv[2:]]
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
with (place / str(index)).open("a") as file:
    file.write("x")
while not (place / str(1 - index)).exists():
    time.sleep(0.05)
# Whoever misses another one ends after it.
time.sleep(1.5 * (codes[index] == 75 and codes[1 - index] != 75))
sys.exit(codes[index])
"""


@pytest.mark.parametrize(
    ("codes", "code", "starts"),
    [
        ((75, 75), 75, 2),  # All miss each other, as where the network breaks.
        ((2, 75), 2, 1),  # One made out a mistake of the user, the other misses it.
        ((75, 2), 2, 1),
    ],
)
def test_workers_that_only_miss_another_are_started_again(tmp_path, codes, code, starts):
    command = [sys.executable, "-c", BOTH_END, str(tmp_path), *map(str, codes)]
    assert run_workers(command, 2, restarts=1) == code
    assert len((tmp_path / "0").read_text()) == starts


def test_a_lost_worker_has_an_exit_code_of_its_own(capsys):
    def command():
        raise WorkerLostError("worker 0 of 2 lost its connection.")

    # sysexits.h of BSD: EX_TEMPFAIL 75, "temp failure; user is invited to retry".
    assert run_command(command) == 75
    assert "error: worker 0 of 2 lost its connection." in capsys.readouterr().err


# A mistake; and what all end with when one of them was sent SIGINT or SIGTERM: 128 + 2, 128 + 15.
@pytest.mark.parametrize("code", [2, 130, 143])
def test_what_the_user_did_is_not_repeated(code, capfd):
    command = [sys.executable, "-c", f"import sys; sys.exit({code})"]
    assert run_workers(command, 2, restarts=3) == code
    assert "started again" not in capfd.readouterr().err


SAVES = """
import signal, sys, time
from pathlib import Path
place = Path(sys.argv[1])

def save(number, frame):
    time.sleep(0.5)
    (place / f"saved{time.monotonic_ns()}").touch()
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
(place / f"ready{time.monotonic_ns()}").touch()
time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_launcher_passes_a_signal_on_once_and_lets_workers_save(tmp_path, number):
    """Ctrl-C in a terminal, and closing it, go to the whole group of the launcher, as here."""
    script = tmp_path / "worker.py"
    script.write_text(SAVES)
    command = [sys.executable, str(script), str(tmp_path)]
    code = (
        # Under nohup, SIGHUP would be ignored, and stay so.
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "from loc_keras.train_workers import run_workers; "
        f"sys.exit(run_workers({command!r}, 2, restarts=2))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    while len(list(tmp_path.glob("ready*"))) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    os.killpg(launcher.pid, number)
    assert launcher.wait(60) == 128 + number
    assert len(list(tmp_path.glob("saved*"))) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can be asked this")
def test_a_killed_launcher_leaves_no_workers(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(SAVES)
    command = [sys.executable, str(script), str(tmp_path)]
    code = f"from loc_keras.train_workers import run_workers; run_workers({command!r}, 2)"
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while len(list(tmp_path.glob("ready*"))) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    ends = time.monotonic() + 30
    while len(list(tmp_path.glob("saved*"))) < 2:  # They save, and end.
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    "given", [["--restarts", "1", "--", "--config", "my.yaml"], ["--restarts", "-1", "--", "x"]]
)
def test_restarts_need_a_run_to_find_again(given, capsys):
    with pytest.raises(SystemExit):
        train_workers.main(["--workers", "2", *given])
    assert "--restarts needs" in capsys.readouterr().err


def test_slurm_script_names_the_workers_of_the_job(tmp_path):
    """The script runs with a SLURM made of two small programs, on which it must not depend."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    programs = {
        # What `scontrol show hostnames` prints for this node list, in SLURM's order.
        "scontrol": 'test "$3" = "n[2,10]" && printf "n2\\nn10\\n"',
        "srun": 'for i in 0 1; do SLURM_PROCID=$i "${@:2}" || exit 1; done',
        "python": 'echo "$TF_CONFIG|$*"',
    }
    for name, body in programs.items():
        path = bin_folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "slurm_train.sh"), "some.yaml", "some/run"],
        env={
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "SLURM_JOB_NODELIST": "n[2,10]",
            "SLURM_JOB_ID": "41",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    told = [line.split("|") for line in done.stdout.splitlines()]
    found = [cluster_from_environment({"TF_CONFIG": config}) for config, _ in told]
    assert [cluster.index for cluster in found] == [0, 1]
    hosts = [worker.split(":")[0] for worker in found[0].workers]
    assert hosts == ["n2", "n10"]
    assert found[0].workers == found[1].workers
    wanted = "-m loc_keras.train --config some.yaml --run-dir some/run"
    assert all(wanted in command for _, command in told)


def test_kubernetes_manifest_starts_a_chief_and_workers():
    job = YAML(typ="safe").load(ROOT / "examples" / "kubernetes_tfjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    replicas = job["spec"]["tfReplicaSpecs"]
    assert set(replicas) == {"Chief", "Worker"}
    assert replicas["Chief"]["replicas"] == 1
    for spec in replicas.values():
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        # The operator finds the container, and the port that it puts into TF_CONFIG, by name.
        assert container["name"] == "tensorflow"
        command = [*container.get("command", []), *container.get("args", [])]
        assert command[:3] == ["python", "-m", "loc_keras.train"]
        # Pods that are started again find the run by its folder.
        assert "--run-dir" in command
        assert spec["restartPolicy"] == "OnFailure"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    # The operator counts the chief and the workers; each gets an equal share.
    assert 1 + replicas["Worker"]["replicas"] == 4
