"""One model of the density shoot-out on one set, in a process of its own: `density.py` calls it.

    python density_one.py SET MODEL SECONDS OUT.npz

Seconds are those of compiling, fitting, choosing and scoring; reading the set, which is the same
for all, is not counted.
"""

import json
import sys
import time

STARTED = time.monotonic()


def main() -> None:
    name, model, seconds, out = sys.argv[1:]
    import numpy as np
    from density_ours import score_ours
    from density_peers import PEERS
    from density_sets import gather

    shared = gather(name)
    gathered = time.monotonic()  # the same for all, and no model's own time
    offset = gathered - STARTED

    def left() -> float:
        """Seconds that are left for fitting."""
        return float(seconds) - (time.monotonic() - gathered)

    scored = (score_ours if model == "ours" else PEERS[model])(shared, left)
    told = {"seconds": time.monotonic() - gathered, "reading": offset, "chosen": scored.words}
    np.savez(out, told=json.dumps(told | scored.more), nll=scored.nll, **scored.others)


if __name__ == "__main__":
    main()
