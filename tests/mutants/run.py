"""`make mutants`: do the tests notice faults? Each of a list is made, alone, and its tests run.

The project is copied to a temporary folder, once for each job, and only copies are changed. First
the tests run without any fault: one that fails then shows nothing. A fault is killed if a test
fails that has passed before. It survives if all pass; it is stale if its text is not in the code
any more, and invalid if nothing can be concluded: it is not Python, a module cannot be imported,
no test was selected, or time was over. Exit status 1 unless all faults were killed.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from mutants import outcomes  # noqa: E402
from mutants.faults import LIST, Fault, Stale, read  # noqa: E402

PARTS = ("src", "tests", "pyproject.toml")
"""What tests need of the project."""
BASELINE_LIMIT = 1_800.0  # seconds
KILLED, SURVIVES, STALE, INVALID = "killed", "SURVIVES", "STALE", "INVALID"


@dataclass(frozen=True)
class Told:
    """What became of one test; see `outcomes.py`."""

    test: str
    outcome: str
    broken: bool


@dataclass(frozen=True)
class Ran:
    """A run of pytest; the status is None if it was ended because its time was over."""

    status: int | None
    told: list[Told]

    @property
    def failed(self) -> list[Told]:
        """The tests that failed, and files that could not be imported."""
        return [one for one in self.told if one.outcome == "failed"]


@dataclass(frozen=True)
class Verdict:
    """What is said of a fault: a status, and by which test or why."""

    fault: Fault
    status: str
    why: str
    seconds: float = 0.0


class Bench:
    """A copy of the project, in which faults are made."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy what is in `root` into `folder`, which is not there yet."""
        self.root, self._running = folder, None
        folder.mkdir()
        for part in PARTS:
            if (root / part).is_dir():
                unwanted = shutil.ignore_patterns("__pycache__", ".pytest_cache")
                shutil.copytree(root / part, folder / part, ignore=unwanted)
            elif (root / part).exists():
                shutil.copy2(root / part, folder / part)

    def pytest(self, tests: Sequence[str], *options: str, limit: float) -> Ran:
        """Run tests of the copy, in a process of its own, as the suite does."""
        log = self.root / "outcomes.jsonl"
        log.write_text("")
        paths = [str(self.root / "src"), str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = {
            "TILTFLOW_CACHE": "off",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            outcomes.FILE: str(log),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "outcomes"]
        command += ["-p", "no:cacheprovider", f"--basetemp={self.root / 'tmp'}", *options, *tests]
        with (self.root / "output.txt").open("w") as output:
            self._running = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                status = self._running.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                self.stop()
        lines = log.read_text(encoding="utf-8").splitlines()
        return Ran(status, [Told(**json.loads(line)) for line in lines])

    def stop(self) -> None:
        """End the tests, and what they have started, if they still run."""
        if self._running is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()

    def output(self) -> str:
        """What pytest printed last."""
        return (self.root / "output.txt").read_text(encoding="utf-8", errors="replace")

    def judge(self, fault: Fault, limit: float) -> Verdict:
        """Make the fault, run its tests, undo it."""
        path = self.root / fault.file
        whole = path.read_text(encoding="utf-8")
        began = time.monotonic()
        try:
            broken = fault.made(whole)
            compile(broken, fault.file, "exec")
        except Stale as error:
            return Verdict(fault, STALE, str(error))
        except SyntaxError as error:
            return Verdict(fault, INVALID, f"it is not Python: {error.msg}")
        try:
            self.write(path, broken)
            ran = self.pytest(fault.tests, "-x", "--tb=no", limit=limit)
        finally:
            self.write(path, whole)
        return Verdict(fault, *concluded(ran, limit), time.monotonic() - began)

    @staticmethod
    def write(path: Path, text: str) -> None:
        """Write a module, and forget what was compiled of it: its time may be the same."""
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink(missing_ok=True)


def concluded(ran: Ran, limit: float) -> tuple[str, str]:
    """A status, and by which test or why, from what pytest told of a fault's tests."""
    if ran.status is None:
        return INVALID, f"its tests did not end in {limit:.0f} s"
    if ran.failed:
        first = ran.failed[0]
        if first.broken:
            return INVALID, f"it breaks the program, not what it means: {first.test}"
        return KILLED, first.test
    if ran.status == 0 and ran.told:
        return SURVIVES, f"{len(ran.told)} tests pass"
    return INVALID, f"no test has run (pytest's status is {ran.status})"


def baseline(benches: list[Bench], faults: Sequence[Fault]) -> tuple[list[str], list[str]]:
    """The tests that pass and those that fail without any fault, all that faults name."""
    files: dict[str, list[str]] = {}
    for test in sorted({test for fault in faults for test in fault.tests}):
        files.setdefault(test.partition("::")[0], []).append(test)
    names = sorted(files, key=lambda file: -len(files[file]))
    parts = [
        [test for name in names[job :: len(benches)] for test in files[name]]
        for job in range(len(benches))
    ]

    def run(bench: Bench, tests: list[str]) -> list[Told]:
        options = ("--tb=short", "--continue-on-collection-errors")
        found = bench.pytest(tests, *options, limit=BASELINE_LIMIT) if tests else Ran(0, [])
        if found.status != 0:
            print(bench.output())
        if found.status == 4:  # a test that is not there keeps all others from running
            each = (bench.pytest([test], *options, limit=BASELINE_LIMIT) for test in tests)
            return [one for ran in each for one in ran.told]
        return found.told

    with ThreadPoolExecutor(len(benches)) as pool:
        told = [one for part in pool.map(run, benches, parts) for one in part]
    passed = [one.test for one in told if one.outcome == "passed"]
    return passed, [one.test for one in told if one.outcome == "failed"]


def shows_nothing(fault: Fault, passed: Iterable[str], failed: Iterable[str]) -> str:
    """Why the tests of a fault show nothing, as they are without it; or nothing."""
    for test in fault.tests:
        if wrong := next((f for f in failed if _among(f, test) or _among(test, f)), None):
            return f"fails without it: {wrong}"
        if not any(_among(one, test) for one in passed):
            return f"selects no test: {test}"
    return ""


def _among(test: str, named: str) -> bool:
    """Whether a test is the one of that name, or one of those."""
    return test == named or test.startswith((f"{named}[", f"{named}::", f"{named}/"))


def judged(
    benches: list[Bench], faults: Sequence[Fault], limit: float, why_not: dict[Fault, str]
) -> list[Verdict]:
    """All verdicts, in the faults' order; each is printed when it is there."""
    free: Queue[Bench] = Queue()
    for bench in benches:
        free.put(bench)
    began, lock, done = time.monotonic(), threading.Lock(), [0]

    def one(fault: Fault) -> Verdict:
        if why := why_not.get(fault):
            verdict = Verdict(fault, INVALID, why)
        else:
            bench = free.get()
            try:
                verdict = bench.judge(fault, limit)
            finally:
                free.put(bench)
        with lock:
            done[0] += 1
            left = (time.monotonic() - began) / done[0] * (len(faults) - done[0])
            print(
                f"{done[0]:3}/{len(faults)} {verdict.status:8} {verdict.seconds:5.1f} s  "
                f"{fault.file}: {fault.breaks}  [{verdict.why}]  {left / 60:.0f} min left",
                flush=True,
            )
        return verdict

    with ThreadPoolExecutor(len(benches)) as pool:
        try:
            return list(pool.map(one, faults))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for bench in benches:
                bench.stop()
            raise


def summary(verdicts: Sequence[Verdict]) -> str:
    """Numbers, and all that was not killed once more."""
    counts = {s: sum(v.status == s for v in verdicts) for s in (KILLED, SURVIVES, STALE, INVALID)}
    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [f"\n{len(verdicts)} faults: {told}; {spent.ru_utime + spent.ru_stime:.0f} s of CPU"]
    for verdict in verdicts:
        if verdict.status != KILLED:
            fault = verdict.fault
            lines.append(f"{verdict.status}: {fault.file}: {fault.breaks}\n    {verdict.why}")
            lines.append(f"    - {fault.old}\n    + {fault.new}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", default="", help="words: faults with all of them in their entry")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a fault may take")
    parser.add_argument("--json", type=Path, help="a file for all that is told")
    parser.add_argument("--list", action="store_true", help="name the faults, run nothing")
    parser.add_argument("--no-baseline", action="store_true", help="trust the tests as they are")
    parser.add_argument("--root", type=Path, default=HERE.parents[1], help="of the project")
    parser.add_argument("--faults", type=Path, default=LIST, help="the list")
    asked = parser.parse_args(arguments)
    words = asked.only.lower().split()
    faults = [
        f for f in read(asked.faults) if all(w in " ".join(map(str, asdict(f).values())).lower()
                                             for w in words)
    ]  # fmt: skip
    if asked.list:
        for fault in faults:
            print(f"{fault.file}: {fault.breaks}\n    {' '.join(fault.tests)}")
        return 0
    if not faults:
        print(f"no fault has {asked.only!r} in its entry; expected words that one has")
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        jobs = max(1, min(asked.jobs, len(faults)))
        benches = [Bench(asked.root, Path(folder) / str(job)) for job in range(jobs)]
        why_not: dict[Fault, str] = {}
        if not asked.no_baseline:
            print(f"{len(faults)} faults; first their tests without any", flush=True)
            passed, failed = baseline(benches, faults)
            why_not = {f: why for f in faults if (why := shows_nothing(f, passed, failed))}
        verdicts = judged(benches, faults, asked.limit, why_not)
    print(summary(verdicts))
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(v) for v in verdicts], indent=1) + "\n")
    return 0 if all(verdict.status == KILLED for verdict in verdicts) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    sys.exit(main())
