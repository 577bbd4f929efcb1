"""How wide a generator's noise is after tilting: a tilt of x can spend its nats on noise alone.

Under q the noise eps of x = decoder(z) + sigma eps has standard deviation 1. A tilt of z leaves
it so. One of x may narrow it, or give it structure: a gain in nats that no eye sees.
"""

from dataclasses import asdict, dataclass

import numpy as np

from tiltflow.backbones import Generator, Prior
from tiltflow.errors import InputError
from tiltflow.model.tilted import TiltedModel


@dataclass(frozen=True)
class NoiseWidth:
    """Root mean squares over all numbers of x, in the data's coordinates.

    Attributes:
        backbone: of sigma.
        tilted: of sigma eps, eps as the tilted model's draws have it.
    """

    backbone: float
    tilted: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def noise_width(model: TiltedModel, u: np.ndarray) -> NoiseWidth:
    """The noise before and after tilting, from latent draws `u` (`[..., *latent_shape]`).

    Raises:
        InputError: the backbone has no noise of its own.
    """
    backbone = model.backbone
    if isinstance(backbone, Prior):
        width = _root_mean_square(np.asarray(backbone.generator.sigma))
        return NoiseWidth(width, width)
    if not isinstance(backbone, Generator):
        raise InputError(
            f"the backbone is a {type(backbone).__name__}; expected a generator with noise"
        )
    sigma = np.asarray(backbone.sigma)
    u = np.asarray(u)
    eps = u.reshape(-1, u.shape[-1])[:, backbone.z_dim :]
    squares = np.einsum("nd,nd->d", eps, eps, dtype=np.float64) / len(eps)  # copies nothing
    return NoiseWidth(_root_mean_square(sigma), float(np.sqrt(np.mean(sigma**2 * squares))))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
