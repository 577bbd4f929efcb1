"""Class shares that swing while the gain rises: the particles follow one class after another.

A gain in nats can rise while a third of the samples are of one class: the chains lag. The
witnesses' histogram over classes of the user's choice shows it, from one judgement to the next.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 0.15  # total variation between two judgements' shares


@dataclass
class Swings:
    """The last shares and gain that were seen.

    Attributes:
        classes: how many there are; labels are integers below it.
        shares, gain: None before the first.
    """

    classes: int
    shares: list[float] | None = None
    gain: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What was seen, as plain values."""
        return {"shares": self.shares, "gain": self.gain}

    def look(self, labels: np.ndarray, gain: float) -> str | None:
        """What is wrong, if shares have swung while the gain rose.

        Args:
            labels: `[n]`, of the witnesses.
            gain: held-out, in nats.
        """
        shares = np.bincount(labels, minlength=self.classes) / len(labels)
        before, risen = self.shares, self.gain is not None and gain > self.gain
        self.shares, self.gain = shares.tolist(), gain
        if before is None or not risen:
            return None
        swing = 0.5 * float(np.abs(shares - before).sum())
        chance = float(np.sqrt(self.classes / len(labels)))
        if swing <= max(LARGEST, chance):
            return None
        worst = int(np.argmax(np.abs(shares - before)))
        return (
            f"class shares swing while the gain rises: class {worst} went from "
            f"{before[worst]:.0%} to {shares[worst]:.0%} of the witnesses, and {swing:.0%} of all "
            f"changed class; the chains lag: more transitions, or a lower rate"
        )
