"""Disturbs commands at work, gives them again, and compares the end with an undisturbed one.

    python -m benchmarks.faults --minutes 12 [--seed 0] [--only convert killed ...] [--rounds 1]
    python -m benchmarks.faults --minutes 60 --kills-in-all 200

Faults, at random moments of the time that the undisturbed command takes:

    killed      by SIGKILL, up to `--kills` times, each time given again; a kill counts where the
                process had not ended yet. With `--kills-in-all` there is no other fault, and next
                is always the command that has had the least time, until there are so many
    disk full   on a small tmpfs with room for a random part of what is written; where mounting is
                not allowed a bound on the size of files
    file gone   a picture is removed, or cut to half
    two         the command is given twice at once
    read-only   by a user who may not write
    clock back  the clock of Python goes back by a day, and all files are of tomorrow

Then the cause is mended and the same command given again. It has survived where that ends well and
`fault_commands.Place.result` finds what the undisturbed command leaves, no file more; and where the
disturbed one, unless it was killed, ended well too or with one sentence. A file that is gone is an
exception: where the command named it, the second may refuse to go on, by one sentence, or have left
it out. Commands are forked from a process that has imported everything.
"""

import argparse
import contextlib
import ctypes
import datetime
import itertools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.common import markdown_of, table_of
from benchmarks.fault_commands import COMMANDS, Command, Place
from loc_keras.cli.console import USER_ERROR

DAY = 86_400
BLOCK = 4096
HANGS = 600
"""Seconds after which a command that has not ended counts as hanging."""

_DROP_BOUND, _DAC_OVERRIDE, _CAPABILITIES = 24, 1, 0x20080522
"""Of `linux/prctl.h` and `linux/capability.h`."""

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_ERROR = re.compile(r"^error: ", re.MULTILINE)


class LostError(Exception):
    """What a command lost, or what it should not have said."""


class Trial:
    """One command in one place.

    Args:
        place: Where.
        command: Which.
        draw: Gives moments.
        kills: Most in a row.
    """

    def __init__(self, place: Place, command: Command, draw: random.Random, kills: int) -> None:
        self.place, self.command, self.draw, self.most_kills = place, command, draw, kills
        self.kills, self.spent = 0, 0.0
        with self._new_disk() as self.can_mount:
            before = self._used()
            started = time.monotonic()
            self._well(self.finish(place.fork(command)))
            self.seconds = time.monotonic() - started
            self.written = max(self._used() - before, 1)
            self.expected = place.result()

    def killed(self) -> None:
        for _ in range(self.most_kills):
            child = self.place.fork(self.command)
            self.wait(child, self.moment())
            os.kill(child, signal.SIGKILL)
            if self.finish(child) != -signal.SIGKILL:
                break
            self.kills += 1

    def disk_full(self) -> None:
        room = self.draw.randrange(self.written)
        if self.can_mount:
            self._resize(self._used() + room)
            self._told(self.finish(self.place.fork(self.command)))
            self._resize(1 << 16)
        else:

            def bound() -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room * BLOCK, resource.RLIM_INFINITY))

            self._told(self.finish(self.place.fork(self.command, bound)))

    def file_gone(self) -> None:
        pictures = sorted((self.place.work / "data").glob("*_images/*.png"))
        victim = self.draw.choice(pictures)
        child = self.place.fork(self.command)
        self.wait(child, self.moment())
        if self.draw.random() < 0.5:
            victim.unlink()
        else:
            os.truncate(victim, victim.stat().st_size // 2)
        code = self.finish(child)
        self._told(code, victim.name)
        shutil.copy2(self.place.template / victim.relative_to(self.place.work), victim)
        self.victim = victim.name

    def two(self) -> None:
        children = [self.place.fork(self.command)]
        self.wait(children[0], min(self.moment(), self.draw.random()))
        children.append(self.place.fork(self.command))
        codes = [self.finish(child) for child in children]
        for code in codes:
            self._told(code)
        if 0 not in codes:
            raise LostError(f"none of two ended well: {codes}")

    def read_only(self) -> None:
        for path in (self.place.out, *self.place.out.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        before = self.place.result()
        code = self.finish(self.place.fork(self.command, drop_rights))
        if code == 0:
            raise LostError("it wrote to what is read-only")
        self._told(code)
        if changed := _differing(before, self.place.result()):
            raise LostError(f"it changed what is read-only: {changed}")
        for path in (self.place.out, *self.place.out.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)

    def clock_back(self) -> None:
        tomorrow = time.time() + DAY
        for path in self.place.work.rglob("*"):
            os.utime(path, (tomorrow, tomorrow))
        moment = self.moment()
        self._well(self.finish(self.place.fork(self.command, lambda: turn_back(moment))))

    def try_one(self, fault: str) -> None:
        """Disturbs it, gives it again and compares.

        Raises:
            LostError: If something was lost.
        """
        self.victim = ""
        full = fault == "disk full"
        with self._new_disk() if full else self._new_folder():
            self.place.log.unlink(missing_ok=True)
            FAULTS[fault](self)
            said = self.said()
            self.place.log.unlink(missing_ok=True)
            code = self.finish(self.place.fork(self.command))
            finished = self.command.name == "train" and "holds a finished run" in self.said()
            named = bool(self.victim) and self.victim in said + self._left_out()
            if not finished:
                (self._told if named else self._well)(code, self.victim)
            found = self.place.result()
            differ = _differing(self.expected, found)
            if differ and not named:
                raise LostError(f"not as undisturbed: {differ}")
            left = os.listdir(self.place.temporary)
            if left and fault != "killed":
                raise LostError(f"temporary files are left: {left}")

    def moment(self) -> float:
        """Seconds, within the time that the undisturbed command took."""
        return self.draw.uniform(0, self.seconds)

    @staticmethod
    def wait(child: int, seconds: float) -> bool:
        """Waits for the end of a process, so long at most; whether it has ended."""
        until = time.monotonic() + seconds
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def finish(self, child: int) -> int:
        """Waits for the end, and gives the exit code, or the negative number of the signal."""
        ended = self.wait(child, HANGS)
        if not ended:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not ended:
            raise LostError("it hangs")
        return code

    def said(self) -> str:
        return self.place.log.read_text(errors="replace") if self.place.log.exists() else ""

    def _well(self, code: int, _: str = "") -> None:
        if code or "Traceback" in self.said():
            raise LostError(f"{self.command.name} ended with {code}: {self.said()[-3000:]}")

    def _told(self, code: int, victim: str = "") -> None:
        """Refuses an end that is neither good nor told by one sentence, or by naming a file."""
        said = self.said()
        sentence = _ERROR.search(said) or (victim and victim in said)
        if code not in (0, USER_ERROR) or "Traceback" in said or (code and not sentence):
            raise LostError(f"it ended with {code} and no sentence")

    def _left_out(self) -> str:
        """What files say about pictures that could not be read."""
        names = ("skipped.json", "failures.jsonl")
        files = [path for name in names for path in self.place.out.rglob(name)]
        return "".join(path.read_text() for path in files)

    @contextlib.contextmanager
    def _new_folder(self) -> Iterator[None]:
        self.place.fresh()
        self.place.fill(self.command)
        yield

    @contextlib.contextmanager
    def _new_disk(self) -> Iterator[bool]:
        """As `_new_folder`, with `out` on a disk of its own; gives whether that was allowed."""
        self.place.fresh()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "none", str(self.place.out)]
        allowed = os.getuid() == 0
        allowed &= not subprocess.run(mount, check=False, capture_output=True).returncode
        try:
            self.place.fill(self.command)
            yield allowed
        finally:
            if allowed:
                subprocess.run(["umount", "-l", str(self.place.out)], check=True)

    def _used(self) -> int:
        """Blocks that are in use on the disk of `out`."""
        disk = os.statvfs(self.place.out)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize // BLOCK

    def _resize(self, blocks: int) -> None:
        size = f"remount,size={blocks * BLOCK}"
        subprocess.run(["mount", "-o", size, str(self.place.out)], check=True)


def _differing(expected: dict[str, str], found: dict[str, str]) -> str:
    """Names of what differs, by more than the last bits that another size of batch leaves."""
    names = sorted(expected.keys() | found.keys())
    equal = {n for n in expected.keys() & found.keys() if _are_equal(expected[n], found[n])}
    return ", ".join(name for name in names if name not in equal)


def _are_equal(expected: str, found: str) -> bool:
    if expected == found:
        return True
    if _NUMBER.sub("", expected) != _NUMBER.sub("", found):
        return False
    numbers = [np.array(_NUMBER.findall(text), float) for text in (expected, found)]
    return bool(np.allclose(*numbers, rtol=1e-4, atol=1e-5))


def drop_rights() -> None:
    """Lets root obey the modes of files, in this process and those that it starts."""
    if os.getuid() == 0:
        system = ctypes.CDLL(None, use_errno=True)
        system.prctl(_DROP_BOUND, _DAC_OVERRIDE, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
        sets = (ctypes.c_uint32 * 6)()  # Effective, permitted, inherited; then the higher bits.
        system.capget(header, sets)
        for number in range(3):
            sets[number] &= ~(1 << _DAC_OVERRIDE)
        if system.capset(header, sets):
            raise OSError(ctypes.get_errno(), "rights cannot be dropped")


def turn_back(after: float) -> None:
    """Lets the clock of this process go back by a day, so many seconds from now."""
    begun, seconds, nanoseconds = time.monotonic(), time.time, time.time_ns
    plain = datetime.datetime

    def shift() -> int:
        return DAY if time.monotonic() - begun > after else 0

    class Clock(plain):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
            return super().now(tz) - datetime.timedelta(seconds=shift())

    time.time = lambda: seconds() - shift()
    time.time_ns = lambda: nanoseconds() - shift() * 10**9
    datetime.datetime = Clock  # type: ignore[misc]
    for name, module in list(sys.modules.items()):
        if name.startswith("loc_keras") and vars(module).get("datetime") is plain:
            module.datetime = Clock  # type: ignore[attr-defined]


FAULTS: dict[str, Callable[[Trial], None]] = {
    "killed": Trial.killed,
    "disk full": Trial.disk_full,
    "file gone": Trial.file_gone,
    "two": Trial.two,
    "read-only": Trial.read_only,
    "clock back": Trial.clock_back,
}


def _cells(trials: dict[str, Trial], faults: list[str], args: Any) -> Iterator[tuple[str, str]]:
    """Commands and faults to try, until the time is over."""
    until = time.monotonic() + 60 * args.minutes
    planned = itertools.product(range(args.rounds), faults, trials)
    while time.monotonic() < until:
        if not args.kills_in_all:
            cell = next(planned, None)
            if cell is None:
                return
            yield cell[2], cell[1]
        elif sum(trial.kills for trial in trials.values()) < args.kills_in_all:
            yield min(trials, key=lambda command: trials[command].spent), "killed"
        else:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of faults; then none is begun")
    parser.add_argument("--rounds", type=int, default=1000, help="tries of each cell at most")
    parser.add_argument("--kills", type=int, default=8, help="most in a row")
    parser.add_argument("--kills-in-all", type=int, default=0, help="kills until there are so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*COMMANDS, *FAULTS], default=[])
    args = parser.parse_args()
    commands = [one for one in COMMANDS.values() if one.name in args.only]
    faults = [one for one in FAULTS if one in args.only] or list(FAULTS)
    faults = ["killed"] if args.kills_in_all else faults
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        place = Place(home, commands := commands or list(COMMANDS.values()))
        draw = random.Random(args.seed)
        trials = {one.name: Trial(place, one, draw, args.kills) for one in commands}
        tried, lost = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for command, fault in _cells(trials, faults, args):
            tried[command, fault] += 1
            started = time.monotonic()
            try:
                trials[command].try_one(fault)
                verdict = "survived"
            except LostError as error:
                lost[command, fault] += 1
                verdict = f"LOST: {error}\n{trials[command].said()[-3000:]}"
            seconds = time.monotonic() - started
            trials[command].spent += seconds
            killed = f"{trials[command].kills} kills so far"
            print(f"{command} | {fault} | {seconds:.1f} s | {killed} | {verdict}", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    rows: list[dict[str, Any]] = []
    for command, trial in trials.items():
        cell = {
            fault: f"{tried[command, fault] - lost[command, fault]} of {tried[command, fault]}"
            for fault in faults
        }
        mine = sum(lost[command, fault] for fault in faults)
        rows.append({"survived": command, **cell, "kills": trial.kills, "lost": mine})
    Console().print(table_of(rows))
    print(markdown_of(rows))
    kills = sum(trial.kills for trial in trials.values())
    print(f"{tried.total()} tried, {lost.total()} lost; {kills} kills")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
