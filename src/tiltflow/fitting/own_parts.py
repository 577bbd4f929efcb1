"""Parts of the user's own in `fit`: a backbone, a tilt and a learner, each a name or an object.

- A backbone that is an object is learned if it is a flow, since its likelihood is exact, and taken
  as it is if it is a generator, or `backbones.Kept`. A function of (units, key=key), such as a
  class of flows, makes one over units that are fitted to the data.
- A tilt that is an object reads what its type says: coordinates, or, if it says nothing, x in data
  units (`tilts/data.py`). It is learned if there are arrays of floats in it that are not `Frozen`,
  and otherwise taken as it is.
- A learner that is an object brings settings and a stage (`learning.Learner`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Backbone, Generator, Kept, Prior
from tiltflow.backbones.own import as_backbone, is_learned
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError
from tiltflow.fitting.settings import ModelSettings, Settings, suited_to
from tiltflow.learning import Learner, Stage, TiltSettings
from tiltflow.learning.state import LEARNERS
from tiltflow.model.specs import TILTS, NetworkSpec, PartsSpec, WholeSpec, of_parts
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import ReadsCoordinates, Tilt
from tiltflow.tilts.classes import classes_of
from tiltflow.tilts.data import as_learned

USUAL = {
    "coupling": "mlp",
    "ensemble": "mlp",
    "gaussian": "mlp",
    "glow": "conv",
    "vae": "mlp",
}
"""The tilt of each backbone, by their names."""


@dataclass(frozen=True)
class OwnParts:
    """What is not made as the settings say.

    Attributes:
        backbone: an object, as `backbones.own.as_backbone` takes it; None: as the settings say.
        tilt: an object, or one of `TILTS` where the backbone's is another; None: as it is usual.
        stage: of a learner; None: that of the learner that the settings name.
        classes: how many the labels of the data are, for a tilt that tells them apart; else 0.
    """

    backbone: Any = None
    tilt: ReadsCoordinates | Callable[..., Any] | str | None = None
    stage: Stage | None = None
    classes: int = 0

    @property
    def tells_classes(self) -> bool:
        """Whether the tilt tells the labels of the data apart."""
        return self.tilt == "classes" or classes_of(self.tilt) > 0

    @property
    def units(self) -> Units | None:
        """Those that the backbone brings; None: they are fitted to the data."""
        own = self.backbone.flow if isinstance(self.backbone, Kept) else self.backbone
        made = own is None or (callable(own) and not isinstance(own, Backbone))
        return None if made else as_backbone(self.backbone).units

    @property
    def learns_backbone(self) -> bool:
        """Whether the backbone is learned."""
        return self.backbone is None or is_learned(self.backbone)

    @property
    def makes_tilt(self) -> bool:
        """Whether the tilt is not that of the settings' specification."""
        return self.backbone is not None or self.tilt is not None

    def begin_tilt(
        self, backbone: Backbone, model: ModelSettings, *, key: PRNGKeyArray
    ) -> tuple[Tilt, NetworkSpec | None]:
        """The tilt before it is learned, and its specification if it is the library's.

        Raises:
            InputError: convolutions of what is no image, or as `tilts.DataTilt`.
        """
        name = "mlp" if self.tilt is None else self.tilt
        if not isinstance(name, str):
            return as_learned(name, backbone), None
        if name == "conv" and isinstance(backbone, Prior | Generator):
            raise InputError(
                "tilt 'conv' over a generator, whose coordinates are no images; expected 'mlp', or "
                "tilts.OfData"
            )
        conv, shape = name == "conv", backbone.data_shape if name == "conv" else (backbone.dim,)
        spec = NetworkSpec(
            name,
            shape,
            width=model.conv.width if conv else model.tilt_width,
            depth=1 if conv else model.tilt_depth,
            dropout=model.conv.dropout if conv else model.tilt_dropout,
            channels=model.conv.channels,
            residual=model.conv.residual,
            spectral=model.conv.spectral,
            classes=self.classes if name == "classes" else 0,
        )
        return spec.build(key=key), spec

    def specification(
        self, model: TiltedModel, whole: WholeSpec | None, network: NetworkSpec | None
    ) -> PartsSpec:
        """Of a model: its backbone that of `whole`, its tilt of `network`; None: it is own."""
        return of_parts(model, whole, network)


def chosen(
    backbone: Any, tilt: Any, learner: Any, settings: Settings | None, rows: int, shape: tuple
) -> tuple[Settings, OwnParts]:
    """The settings, those that suit `rows` training rows of `shape` if None, and the own parts.

    Raises:
        InputError: a name that is none, or parts that do not go together.
    """
    name = backbone if isinstance(backbone, str) else None
    if isinstance(backbone, Generator | Prior):
        name = "vae"
    if settings is None:
        of_learner = learner if learner is None or isinstance(learner, str) else "own"
        suits = "coupling" if name is None and backbone is not None else name
        settings = suited_to(suits, rows, shape, of_learner)
    elif name is not None:
        settings = replace(settings, model=replace(settings.model, backbone=name))
    settings, stage = _with_learner(settings, learner)
    if tilt is None and settings.model.classes:
        tilt = "classes"
    if isinstance(tilt, str):
        if tilt not in TILTS:
            raise InputError(f"tilt {tilt!r}; expected one of {', '.join(TILTS)}, or an object")
        tilt = None if _is_usual(tilt, backbone, settings) else tilt
    own = OwnParts(None if isinstance(backbone, str) else backbone, tilt, stage)
    if own.makes_tilt:
        if settings.model.data_width:
            raise InputError(
                f"data_width is {settings.model.data_width}, a second tilt, beside a backbone or a "
                f"tilt of your own; expected 0"
            )
        settings = replace(settings, model=replace(settings.model, components=0))
    return settings, own


def _is_usual(tilt: str, backbone: Any, settings: Settings) -> bool:
    named = backbone is None or isinstance(backbone, str)
    return named and USUAL.get(settings.model.backbone) == tilt


def _with_learner(settings: Settings, learner: Any) -> tuple[Settings, Stage | None]:
    if learner is None:
        return settings, None
    if isinstance(learner, str):
        if learner not in LEARNERS:
            raise InputError(f"learner {learner!r}; expected one of {', '.join(LEARNERS)}")
        return replace(settings, tilt=settings.tilt.suiting(learner)), None
    if isinstance(learner, TiltSettings):
        return replace(settings, tilt=learner), None
    found, stage = getattr(learner, "settings", None), getattr(learner, "stage", None)
    if not (isinstance(found, TiltSettings) and callable(stage)):
        raise InputError(
            f"the learner is a {type(learner).__name__}; expected a name ({', '.join(LEARNERS)}), "
            f"tiltflow.learning.TiltSettings, or an object with such settings and a stage "
            f"(tiltflow.learning.Learner)"
        )
    own: Learner = learner
    return replace(settings, tilt=own.settings), own.stage
