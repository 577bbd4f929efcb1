"""A short run: so many unadjusted Langevin transitions from a stated start, as a way to draw.

Much of the literature learns energies with chains that are begun anew for each gradient and run for
a number of steps that is too small to forget the start. What is learned then is no density: its
draws are right after just so many steps of just that size from just that start, and wrong after
more (Nijkamp et al. 2019, arXiv 1904.09770; Agoritsas et al. 2023, arXiv 2301.09428). So the
protocol is a part of the model, and is saved with it.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone, Flow, Generator, Prior
from tiltflow.errors import InputError
from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.langevin import UnadjustedLangevin
from tiltflow.model.tilted import TiltedModel

Start = Literal["noise", "data", "uniform"]
REACH = 3.0  # of uniform starts, in each latent coordinate, to either side


@dataclass(frozen=True)
class Protocol:
    """How a short run goes; the model's draws are those that it makes, and no others.

    Attributes:
        transitions: so many.
        step_size: of each: u + step_size^2 / 2 * gradient + step_size * noise.
        start: `"noise"`, exact draws of the backbone; `"data"`, training rows; `"uniform"`, all
            latent coordinates uniform between -3 and 3.
    """

    transitions: int
    step_size: float
    start: Start = "noise"

    def __post_init__(self) -> None:
        """Raises InputError for what cannot be run."""
        if type(self.transitions) is not int or self.transitions < 1:
            raise InputError(f"{self.transitions} transitions of a short run; expected 1 or more")
        if not (isinstance(self.step_size, float | int) and 0 < self.step_size < float("inf")):
            raise InputError(
                f"step_size of a short run is {self.step_size}; expected a positive number"
            )
        if self.start not in get_args(Start):
            raise InputError(
                f"a short run from {self.start!r}; expected one of {', '.join(get_args(Start))}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Protocol":
        """The protocol that was saved; InputError, KeyError or TypeError if it is none."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def starts(
        self, backbone: Backbone, key: PRNGKeyArray, y: Float[Array, "chains dim"]
    ) -> Float[Array, "chains ..."]:
        """Where chains start, as many as rows `y` of data, which are coordinates.

        Raises:
            InputError: from data, over a backbone that has no latent points of data.
        """
        if self.start == "data":
            return latent_of(backbone, y)
        if self.start == "uniform":
            shape = (len(y), *backbone.latent_shape)
            return jr.uniform(key, shape, minval=-REACH, maxval=REACH)
        return backbone.draws(key, len(y))

    def run(
        self, model: TiltedModel, u: Float[Array, "chains ..."], key: PRNGKeyArray
    ) -> Float[Array, "chains ..."]:
        """Where chains end that start at `u`."""
        return run(model, u, jnp.asarray(self.transitions), jnp.asarray(self.step_size), key)


def run(
    model: TiltedModel, u: Float[Array, "chains ..."], transitions: Array, step: Array, key: Array
) -> Float[Array, "chains ..."]:
    """So many unadjusted Langevin transitions of chains at `u`."""
    kernel, tuning = UnadjustedLangevin(), Tuning(step, step)
    density = model.latent_log_densities

    def transition(index: Array, state: Any) -> Any:
        return kernel.step(jr.fold_in(key, index), density, state, tuning)[0]

    return jax.lax.fori_loop(0, transitions, transition, kernel.init(density, u)).position


def latent_of(backbone: Backbone, y: Float[Array, "rows dim"]) -> Float[Array, "rows ..."]:
    """The latent points of coordinates y.

    Raises:
        InputError: the backbone is no flow, and no generator with noise.
    """
    if isinstance(backbone, Prior):
        return y
    if not isinstance(backbone, Flow | Generator):
        raise InputError(
            f"data have no latent points under a {type(backbone).__name__}; expected a flow, or a "
            f"generator with noise"
        )
    return jax.vmap(lambda c: backbone.inverse(c)[0])(y)
