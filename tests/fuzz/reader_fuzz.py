"""A small fuzzer guided by coverage: files are changed at random, and those that reach new lines are changed further.

A reader may return, or raise an `InputError` of one line. All else is a finding: another exception, a warning, more
than `SLOWEST_S`, more than `LARGEST_BYTES` beyond what the process had, or the end of the process.

    python tests/fuzz/reader_fuzz.py [READER ...] --seconds 60 --seed 1 --out findings

runs each reader in a process of its own. The search is seeded: the same seed and number of runs give the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

SLOWEST_S = 5.0
LARGEST_BYTES = 400 << 20
LARGEST_INPUT = 60_000
WATCHED = (os.sep + "formats" + os.sep, "files.py", "structure_factors.py")
NUMBERS = (
    b"0 -1 1 2 nan inf -inf 1e999 1e-999 -0.0 1e30 -1e30 1e31 1e308 0.5 255 256 65535 65536 2147483647 -2147483648 "
    b"4294967295 4294967296 9223372036854775807 99999999999999999999 0x10 1_0 1e 1. .5 + -"
).split()
BYTES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xff\xff\xff\x7f",
    b"\n",
    b" ",
    b"{",
    b"[",
)
_TOKEN = re.compile(rb"[+-]?\d+\.?\d*(?:[eE][+-]?\d+)?")

Reader = Callable[[Path], object]


class Hang(BaseException):
    """A run took too long; no reader catches this."""


class Coverage:
    """The pairs of lines, one after the other, of the watched files that a call went through."""

    def __init__(self, watched: tuple[str, ...] = WATCHED) -> None:
        self.watched, self.pairs, self.last = watched, set(), 0

    def __enter__(self) -> Coverage:
        self.before, self.pairs = sys.gettrace(), set()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def _call(self, frame, event, argument):
        name = frame.f_code.co_filename
        if not any(part in name for part in self.watched):
            return None
        self.last = hash(name) & 0xFFFFFF
        return self._line

    def _line(self, frame, event, argument):
        at = (frame.f_code.co_firstlineno << 20) ^ frame.f_lineno ^ (len(frame.f_code.co_filename) << 40)
        self.pairs.add((self.last, at))
        self.last = at
        return self._line


def mutated(content: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """Return a file changed in one to eight places."""
    data = content
    for _ in range(1 << dice.randrange(4)):
        data = dice.choice(CHANGES)(data, others, dice)[:LARGEST_INPUT]
    return data


def _span(data: bytes, dice: random.Random) -> tuple[int, int]:
    first = dice.randrange(len(data) + 1)
    return first, min(len(data), first + 1 + int(dice.expovariate(1 / 12)))


def _bit(data, others, dice):
    if not data:
        return b"\0"
    at = dice.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]


def _byte(data, others, dice):
    at = dice.randrange(len(data) + 1)
    new = dice.choice(BYTES) if dice.random() < 0.5 else bytes([dice.randrange(256)])
    return data[:at] + new + data[at + len(new) * dice.randrange(2) :]


def _number(data, others, dice):
    found = list(_TOKEN.finditer(data))
    if not found:
        return _byte(data, others, dice)
    token = dice.choice(found)
    return data[: token.start()] + dice.choice(NUMBERS) + data[token.end() :]


def _little_endian(data, others, dice):
    width = dice.choice((2, 4, 8))
    at = dice.randrange(max(len(data) - width, 0) + 1)
    value = dice.choice(
        (0, 1, 8, 127, 128, 255, 256, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1)
    )
    return data[:at] + value.to_bytes(width, dice.choice(("little", "big"))) + data[at + width :]


def _cut(data, others, dice):
    first, end = _span(data, dice)
    return data[:first] + data[end:]


def _truncate(data, others, dice):
    return data[: dice.randrange(len(data) + 1)]


def _repeat(data, others, dice):
    first, end = _span(data, dice)
    return data[:end] + data[first:end] * dice.choice((1, 2, 5, 300)) + data[end:]


def _line_gone_or_moved(data, others, dice):
    lines = data.split(b"\n")
    line = lines.pop(dice.randrange(len(lines)))
    if dice.random() < 0.5:
        lines.insert(dice.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def _splice(data, others, dice):
    other = dice.choice(others)
    first, end = _span(other, dice)
    at = dice.randrange(len(data) + 1)
    return data[:at] + other[first:end] + data[at:]


def _join(data, others, dice):
    other = dice.choice(others)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


CHANGES = (
    _bit, _byte, _byte, _number, _number, _number, _little_endian, _cut, _truncate, _repeat, _line_gone_or_moved,
    _splice, _join,
)  # fmt: skip


def complaint_about(read: Reader, path: Path) -> str:
    """Read a file; return what a reader must not do, or nothing."""
    from exactgrad.errors import InputError

    def ring(*_: object) -> None:
        raise Hang

    with contextlib.suppress(OSError):  # forget the most that the process ever had
        Path("/proc/self/clear_refs").write_text("5")
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
    except InputError as error:
        if not str(error).isprintable() or not str(error):
            return f"{type(error).__name__} is not one line"
    except Hang:
        return f"took more than {SLOWEST_S:g} s"
    except Exception as error:  # whatever it is, it is the finding
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if time.monotonic() - started > SLOWEST_S:
        return f"took more than {SLOWEST_S:g} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return f"took {grown >> 20} MiB" if grown > LARGEST_BYTES else ""


def fuzz(
    read: Reader,
    seeds: list[bytes],
    path: Path,
    seed: int,
    runs: int | None = None,
    seconds: float | None = None,
    watched: tuple[str, ...] = WATCHED,
    guided: bool = True,
    before_each: Callable[[bytes], object] = lambda content: None,
) -> tuple[dict[str, bytes], int, int]:
    """Search; return findings (complaint to the shortest file), how many runs there were, and how many pairs of lines.

    The file is rewritten at `path` for every run.
    """
    dice, corpus, covered, findings, done = random.Random(seed), list(seeds), set(), {}, 0  # noqa: S311
    coverage, end = Coverage(watched), time.monotonic() + (seconds or float("inf"))
    while (runs is None or done < runs) and time.monotonic() < end:
        first = done < len(seeds)
        recent = corpus[-20:] if dice.random() < 0.4 else corpus
        content = seeds[done] if first else mutated(dice.choice(recent), corpus, dice)
        path.write_bytes(content)
        before_each(content)
        with coverage:
            complaint = complaint_about(read, path)
        done += 1
        if complaint:
            kind = re.sub(r"\d+", "N", complaint.replace(str(path), "FILE"))[:70]
            if kind not in findings or len(content) < len(findings[kind]):
                findings[kind] = content
        if not coverage.pairs <= covered:
            covered |= coverage.pairs
            if guided and not first:
                corpus.append(content)
    return findings, done, len(covered)


def _work(name: str, out: Path, seconds: float, seed: int) -> None:
    """Fuzz one reader in this process; the file under test is kept where the parent finds it after a crash."""
    import fuzz_targets

    limit = 6 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    current, read, seeds = out / f"{name}.current", fuzz_targets.READERS[name], fuzz_targets.seeds(name)
    for content in seeds:  # whatever is imported or compiled on first use is not what is searched
        current.write_bytes(content)
        complaint_about(read, current)
    findings, runs, pairs = fuzz(read, seeds, current, seed, None, seconds)
    for number, (kind, content) in enumerate(findings.items()):
        (out / f"{name}-{number}").write_bytes(content)
        print(f"{name}: FOUND {kind} ({out / f'{name}-{number}'}, {len(content)} bytes)")
    print(f"{name}: {runs} runs, {pairs} pairs of lines, {len(findings)} findings", flush=True)
    current.unlink(missing_ok=True)


def main() -> int:
    """Fuzz the readers named on the command line, or all."""
    import fuzz_targets

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("readers", nargs="*", choices=[[], *fuzz_targets.READERS], default=[])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="a folder for what is found")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="fuzz-"))
    out.mkdir(parents=True, exist_ok=True)
    if given.worker:
        _work(given.readers[0], out, given.seconds, given.seed)
        return 0
    failed = False
    for name in given.readers or fuzz_targets.READERS:
        words = [sys.executable, __file__, name, "--worker", "--seconds", str(given.seconds), "--seed", str(given.seed)]
        try:
            done = subprocess.run(
                [*words, "--out", str(out)], timeout=given.seconds + 60, capture_output=True, text=True, check=False
            )
            print(done.stdout, end="", flush=True)
            failed |= "FOUND" in done.stdout
            crash = f"ended with {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            crash = "did not come back"
        if crash:
            failed = True
            print(f"{name}: CRASHED, {crash} ({out / f'{name}.current'})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
