"""The figures of "The idea in pictures": `python docs/figures/idea.py` writes docs/images/idea-*.

The toy is learned anew; colours are those of the report.
"""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from toy import CLOUDS, SIDE, Toy, learned, over, plane, visited

from tiltflow.mcmc import HMC, Independence, Kernel, Mixture, sample
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.report import palette
from tiltflow.report.figures import Picture, render

IMAGES = Path(__file__).parent.parent / "images"
PATH = 120  # transitions of the chains that are drawn
LEAPFROGS = 8
CHAINS = 32  # that are counted; the first is drawn


def shades(colour: str) -> Colormap:
    """From paper to one of the palette's colours."""
    return LinearSegmentedColormap.from_list(colour, [palette.PAPER, colour])


DIVERGING = LinearSegmentedColormap.from_list(
    "tilt", [palette.BACKBONE, palette.PAPER, palette.TILTED]
)


def bare(axes: Axes, title: str, side: float = SIDE) -> None:
    """A square plane without ticks, its title in ink."""
    axes.set(xlim=(-side, side), ylim=(-side, side), aspect="equal", xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_title(title, fontsize=10.5, color=palette.INK)
    for spine in axes.spines.values():
        spine.set(visible=True, color=palette.HAIRLINE)


def shade(axes: Axes, values: np.ndarray, colours: Colormap, side: float = SIDE, **limits) -> None:
    """Values on the grid, the first row at the bottom."""
    extent = (-side, side, -side, side)
    axes.imshow(values, cmap=colours, extent=extent, origin="lower", **limits)


def densities(toy: Toy) -> Picture:
    """Backbone, tilt, tilted model: the formula, panel by panel."""
    model, points = toy.model, plane()
    q = np.exp(over(model.backbone.log_prob, points))
    f = over(model.f, points)
    p = np.exp(over(lambda x: model.log_prob(x, toy.log_z.mean), points))

    def draw(figure: Figure) -> None:
        data, first, second, third = figure.subplots(1, 4)
        bare(data, "data")
        data.plot(*toy.data[:1_200].T, ".", color=palette.DATA, markersize=1.6, alpha=0.6)
        top = np.quantile(p, 0.997)
        bare(first, "backbone  q(x)")
        shade(first, q, shades(palette.BACKBONE), vmin=0, vmax=np.quantile(q, 0.997))
        bare(second, "tilt  f(x)")
        largest = 1.6 * float(np.max(np.where(q > 1e-3, f, 0.0)))
        shade(second, f, DIVERGING, vmin=-largest, vmax=largest)
        bare(third, "tilted  p = exp(f) q / Z")
        shade(third, p, shades(palette.TILTED), vmin=0, vmax=top)

    return Picture("idea-tilt", "", "", "", draw, size=(9.6, 2.7))


def chains(toy: Toy) -> Picture:
    """One chain in the latent space, the same in data space, and one that walks in data space."""
    model = toy.model
    axis = np.linspace(-3.6, 3.6, 300, dtype=np.float32)
    latent_plane = np.stack(np.meshgrid(axis, axis), axis=-1)
    pi = over(model.latent_log_density, latent_plane)
    p = over(lambda x: model.log_prob(x, 0.0), plane())
    start = jr.normal(jr.key(5), (CHAINS, 2))
    local = HMC(num_leapfrogs=LEAPFROGS)
    jumps = Mixture((local, Independence()), weights=(0.8, 0.2))
    u = walk(model.latent_log_densities, start, jumps)
    walked = walk(
        data_space_log_density(model, of_data=True),
        data_space_start(model, start, of_data=True),
        local,
    )
    pushed = np.asarray(jax.vmap(jax.vmap(model.backbone.push))(jnp.asarray(u)))
    print(f"clouds that a chain of {PATH} draws visits, mean of {CHAINS} chains:")
    print(f"latent space {visited(pushed):.1f}, data space {visited(walked):.1f} of {CLOUDS}")

    def draw(figure: Figure) -> None:
        latent, travels, stays = figure.subplots(1, 3)
        bare(latent, "latent space: it walks and jumps", 3.6)
        shade(latent, np.exp(pi - pi.max()), shades(palette.MUTED), 3.6)
        path(latent, u[0], palette.TILTED)
        bare(travels, "the same chain, pushed to data")
        shade(travels, np.exp(p - p.max()), shades(palette.MUTED))
        path(travels, pushed[0], palette.TILTED)
        bare(stays, "a chain that moves in data space")
        shade(stays, np.exp(p - p.max()), shades(palette.MUTED))
        path(stays, walked[0], palette.BASELINE)

    return Picture("idea-chains", "", "", "", draw, size=(9.6, 3.5))


def walk(log_density, start: jax.Array, kernel: Kernel) -> np.ndarray:
    """Chains `[chains, PATH, 2]`, with a step size that warm-up has adapted."""
    draws = sample(
        jr.key(6),
        log_density,
        start,
        num_draws=PATH,
        num_warmup=200,
        kernel=kernel,
        step_size=0.2,
    )
    return np.asarray(draws.positions)


def path(axes: Axes, points: np.ndarray, colour: str) -> None:
    """A chain's draws, joined in their order; the first is a ring."""
    axes.plot(*points.T, color=colour, linewidth=0.6, alpha=0.5)
    axes.plot(*points.T, ".", color=colour, markersize=3.5)
    axes.plot(*points[:1].T, "o", color=palette.INK, markersize=6, fillstyle="none")


def write(picture: Picture) -> None:
    """As a PNG of 256 colours: a third of the size, and the eye sees no difference."""
    drawn = Image.open(io.BytesIO(render(picture))).convert("RGB")
    drawn.quantize(256).save(IMAGES / f"{picture.name}.png", optimize=True)


def main() -> None:
    """Write the figures."""
    toy = learned()
    IMAGES.mkdir(exist_ok=True)
    for picture in (densities(toy), chains(toy)):
        write(picture)


if __name__ == "__main__":
    main()
