"""The picture of energies: f under the data, the tilted model and the backbone."""

import numpy as np
from matplotlib.figure import Figure

from . import palette
from .figures import Picture, axes_with, common_edges, key, outline
from .numbers import readable
from .run_folder import Run

_KINDS = {
    "f_data": ("held-out data", palette.DATA),
    "f_tilted": ("tilted samples", palette.TILTED),
    "f_backbone": ("backbone samples", palette.BACKBONE),
}


def energy_pictures(run: Run) -> list[Picture]:
    """Histograms of f over whatever samples were scored."""
    scores = {name: run.evidence[name] for name in _KINDS if name in run.evidence}
    if not any(np.any(values) for values in scores.values()):
        return []  # none, or f is 0 everywhere

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "f(x): less probable to the left, more probable to the right")
        edges = common_edges(list(scores.values()), 42)
        for name, values in scores.items():
            data = name == "f_data"
            weight = {"alpha": 0.22, "linewidth": 0} if data else {"linewidth": 1.7}
            outline(axes, values, edges, fill=data, color=_KINDS[name][1], **weight)
        key(axes, [_KINDS[name] for name in scores])

    caption = (
        "A learned tilt cannot tell its own samples from data: grey and orange should coincide, "
        "blue should lie to their left. Orange right of grey means that chains climb to places "
        "that no data vouch for; orange left of grey, that they lag behind the tilt."
    )
    means = ", ".join(f"{_KINDS[k][0]} {readable(float(np.nanmean(v)))}" for k, v in scores.items())
    alt = f"Histograms of f; means: {means}."
    return [Picture("energies", "Where f puts data and samples", caption, alt, draw, "beside")]
