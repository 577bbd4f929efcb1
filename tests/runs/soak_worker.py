"""A process that works for as long as it is told, and weighs itself meanwhile.

`python soak_worker.py learn|stream|leak FOLDER SECONDS` learns a tilt with a checkpoint after every
stage, or streams draws of chains, or learns and lets nothing go. It prints one JSON list: the
resident memory in MiB, once a second from the first chunk on, when all is compiled.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from stream_worker import stream

from tiltflow.cli.progress import Progress
from tiltflow.data import Dataset
from tiltflow.errors import Interrupted
from tiltflow.fitting.experiment import fit
from tiltflow.fitting.settings import ModelSettings, Settings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.mcmc import Until
from tiltflow.runs import EventLog
from tiltflow.runs.checkpoint import Checkpoints

ENDLESS = 10**9
SMALL = Settings(
    model=ModelSettings(units="standardise", blocks=1, flow_width=16, tilt_width=16),
    backbone=BackboneSettings(steps=250),
    tilt=TiltSettings.default(
        "persistent", steps=ENDLESS, particles=128, rate=1e-6, iterations=2, transitions=1,
        judge_every=1, patience=ENDLESS, bank=500,
    ),
)  # fmt: skip


class Scale:
    """Notes the resident memory once a second."""

    def __init__(self):
        self.mib, self._page, self._first, self._last = [], os.sysconf("SC_PAGE_SIZE"), None, -1.0

    def seconds(self):
        """Since the first time."""
        return 0.0 if self._first is None else time.monotonic() - self._first

    def step_on(self):
        if time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            self._first = self._first or self._last
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mib.append(pages * self._page / 2**20)


def learn(folder, seconds, scale, kept):
    """Learn for `seconds`; `kept` takes what should be let go of, if it is a list."""
    rows = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    data = Dataset("normal", rows, integers=False)
    with EventLog(folder / "events.jsonl") as log, Progress(quiet=True) as progress:

        def listen(phase, event, **fields):
            log.write(phase, event, **fields)
            progress.tell(phase, event, **fields)
            if phase == "tilt":
                scale.step_on()
                if kept is not None:
                    kept.append(np.ones(2**15))  # a quarter of a MiB

        checkpoints = Checkpoints(
            folder / "checkpoints",
            log,
            every_steps=1,
            stop=lambda: "the time is over" if scale.seconds() >= seconds else None,
        )
        try:
            fit(data, SMALL, listen=listen, keeper=checkpoints)
        except Interrupted:
            return
    raise SystemExit("it came to an end by itself")


if __name__ == "__main__":
    task, where, duration = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    where.mkdir()
    weights = Scale()
    if task == "stream":
        stream(
            where / "draws",
            ENDLESS,
            50,
            until=Until(seconds=duration),
            on_chunk=lambda news: weights.step_on(),
        )
    else:
        learn(where, duration, weights, [] if task == "leak" else None)
    print(json.dumps(weights.mib))
