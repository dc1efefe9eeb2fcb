"""Who trains together, as TF_CONFIG says; without TensorFlow, so that it is known at once."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loc_keras.errors import TrainingError

VARIABLE = "TF_CONFIG"
"""Environment variable that TensorFlow and Kubernetes' training operator agree on."""

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", ...}}'


@dataclass(frozen=True)
class Cluster:
    """Who trains together: `host:port` of each, the chief first, and which this process is."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder and talks to the user."""
        return self.index == 0


def cluster_from_environment(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that TF_CONFIG names; None where it names none or one worker alone.

    Raises:
        TrainingError: If TF_CONFIG cannot be understood, or names tasks that do not train.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        settings = json.loads(text)
        cluster = settings.get("cluster", {})
        hosts = {kind: list(names) for kind, names in cluster.items() if names}
        task = settings.get("task", {})
        kind, number = str(task.get("type", "")), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(
            f"{VARIABLE} cannot be understood ({error}); expected JSON such as {EXAMPLE}."
        ) from error
    if sum(map(len, hosts.values())) < 2:
        return None
    _refuse_other_tasks(hosts)
    if kind not in hosts or not 0 <= number < len(hosts[kind]):
        raise TrainingError(
            f"{VARIABLE} says that this process is {kind or 'no task'} {number}, which its cluster "
            f"does not list; give task.type and task.index of one of its tasks."
        )
    chiefs = hosts.get("chief", [])
    workers = (*chiefs, *hosts.get("worker", []))
    return Cluster(workers, number if kind == "chief" else len(chiefs) + number)


def tf_config(workers: list[str], index: int) -> str:
    """The value of TF_CONFIG for one of some workers `host:port`, the first being the chief."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def _refuse_other_tasks(hosts: Mapping[str, Any]) -> None:
    others = sorted(set(hosts) - {"chief", "worker"})
    if others:
        raise TrainingError(
            f"{VARIABLE} lists tasks of type {', '.join(others)}, but training is done by chief "
            "and worker tasks alone; leave the others out."
        )
    if len(hosts.get("chief", [])) > 1:
        raise TrainingError(f"{VARIABLE} lists several chiefs; make all but one of them workers.")
