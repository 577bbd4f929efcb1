"""Rows of data as a backbone's coordinates, dequantised afresh each time they are drawn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.units import Units, dequantise


class Rows(eqx.Module):
    """Data and the units that lead to coordinates.

    Attributes:
        values: `[rows, *data_shape]`, data units.
        units: of the backbone.
        integers: whether uniform noise is added to each row that is drawn.
    """

    values: Float[Array, "rows ..."]
    units: Units
    integers: bool = eqx.field(static=True)

    def data(self, key: PRNGKeyArray) -> Float[Array, "rows ..."]:
        """Every row once, in data units, dequantised with `key`."""
        return dequantise(key, self.values) if self.integers else self.values

    def batch(
        self, key: PRNGKeyArray, size: int
    ) -> tuple[Float[Array, "size dim"], Float[Array, " size"]]:
        """`size` random rows: coordinates, and log|det dy/dx| of each."""
        pick_key, noise_key = jr.split(key)
        index = jr.randint(pick_key, (size,), 0, len(self.values))
        x = self.values[index]
        x = dequantise(noise_key, x) if self.integers else x
        return jax.vmap(self.units.encode_and_log_det)(x)

    def every(
        self, key: PRNGKeyArray, draws: int
    ) -> tuple[Float[Array, "rows draws dim"], Float[Array, "rows draws"]]:
        """Every row with `draws` dequantisations (one if the data are continuous).

        Returns coordinates and log|det dy/dx|.
        """
        keys = jr.split(key, draws if self.integers else 1)
        y, log_det = jax.lax.map(
            lambda k: jax.vmap(self.units.encode_and_log_det)(self.data(k)), keys
        )
        return jnp.swapaxes(y, 0, 1), jnp.swapaxes(log_det, 0, 1)
