"""A server of a SavedModel in a process of its own: the test suite's, or TF Serving's binary."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

FRONT = Path(__file__).with_name("serving_front.py")
BINARY = "tensorflow_model_server"
KINDS = ("front", BINARY) if shutil.which(BINARY) else ("front",)
"""The test suite's own server, and TF Serving's where it is on PATH."""

MODEL = "tiny"


@dataclass(frozen=True)
class Server:
    """Where a server listens.

    Attributes:
        rest: Address of REST for a client.
        grpc: Address of gRPC; None where tensorflow-serving-api is missing.
        pid: Its process.
    """

    rest: str
    grpc: str | None
    pid: int

    def address(self, interface: str) -> str:
        """The address of `rest` or `grpc`; skips the test where it cannot be had."""
        if interface == "grpc" and self.grpc is None:
            pytest.skip("needs tensorflow-serving-api: pip install -r requirements-serving.txt")
        return self.grpc if interface == "grpc" else self.rest


@contextmanager
def running(kind: str, base: Path) -> Iterator[Server]:
    """A server of the latest version in `base`, until the end of the block."""
    command = [sys.executable, str(FRONT)] if kind == "front" else [BINARY]
    ports = {} if kind == "front" else {"rest": _free_port(), "grpc": _free_port()}
    named = {"model_name": MODEL, "model_base_path": base}
    named |= {} if not ports else {"rest_api_port": ports["rest"], "port": ports["grpc"]}
    process = subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in named.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        if kind == "front":
            line = process.stdout.readline()
            assert line, f"the front ended with code {process.wait()} before it was ready"
            ports = json.loads(line)
        else:
            _wait_until_available(f"http://127.0.0.1:{ports['rest']}/v1/models/{MODEL}", process)
            ports["grpc"] = ports["grpc"] if has_serving_api() else None
        grpc = None if ports["grpc"] is None else f"127.0.0.1:{ports['grpc']}"
        yield Server(f"http://127.0.0.1:{ports['rest']}", grpc, process.pid)
        assert process.poll() is None, f"the server ended by itself with code {process.poll()}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def has_serving_api() -> bool:
    """Whether tensorflow-serving-api is installed."""
    return find_spec("tensorflow_serving") is not None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_until_available(url: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, f"{BINARY} ended with code {process.poll()}"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if b"AVAILABLE" in answer.read():
                    return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{BINARY} was not ready within a minute")


def peak_mb(pid: int) -> float:
    """Most memory that a process has held so far, in MB; skips where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        pytest.skip("needs /proc to measure memory")
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
