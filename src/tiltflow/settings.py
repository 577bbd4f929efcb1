"""All settings of `fit`, and those that suit the size of the data."""

from dataclasses import dataclass, field, replace

from tiltflow.backbones.units import KINDS
from tiltflow.backbones.vae import VAESizes
from tiltflow.errors import InputError, at_least_one, check_seed
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.learning.fit_vae import VAESettings

BACKBONES = ("coupling", "vae")
MANY_ROWS = 5_000


@dataclass(frozen=True)
class ModelSettings:
    """The backbone, the sizes of the networks, and the units; as in `spec.ModelSpec`.

    Attributes:
        backbone: `"coupling"`, or `"vae"`, whose networks are in `vae`.
        components: of the mixture that a VAE's tilt begins with; 0: none.
    """

    backbone: str = "coupling"
    vae: VAESizes = field(default_factory=VAESizes)
    components: int = 0
    units: str = "auto"
    blocks: int = 3
    flow_width: int = 64
    flow_dropout: float = 0.2
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3


@dataclass(frozen=True)
class Settings:
    """All settings of `fit`; each part has its defaults and explanations in its own class."""

    model: ModelSettings = field(default_factory=ModelSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    vae: VAESettings = field(default_factory=VAESettings)
    tilt: TiltSettings = field(default_factory=TiltSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work, or a negative seed."""
        check_seed(seed)
        at_least_one(self.model, "blocks", "flow_width", "tilt_width", "tilt_depth")
        at_least_one(self.backbone, "steps", "batch", "patience")
        self.tilt.check()
        self.vae.check()
        if self.model.backbone not in BACKBONES:
            raise InputError(f"backbone {self.model.backbone!r}; expected {' or '.join(BACKBONES)}")
        self.sampling.check()
        for name in ("flow_dropout", "tilt_dropout"):
            if not 0 <= getattr(self.model, name) < 1:
                raise InputError(f"{name} is {getattr(self.model, name)}; expected [0, 1)")
        if self.model.units not in ("auto", *KINDS):
            raise InputError(f"units {self.model.units!r}; expected auto, {', '.join(KINDS)}")


def suited(rows: int, dim: int) -> Settings:
    """The default settings, changed where `rows` training rows of `dim` numbers allow it.

    The defaults are for some thousand rows, where decay and dropout keep flow and tilt from
    learning them by heart. From 5,000 rows on the flow is larger, trains for longer and is
    hardly held back; and the gain left for the tilt is smaller than the noise of 2,048
    particles, so there are more of them, in larger batches, at a higher rate.
    """
    settings = Settings()
    if rows < MANY_ROWS or dim > rows // 50:
        return settings
    return replace(
        settings,
        model=replace(settings.model, blocks=8, flow_width=192, flow_dropout=0.0, tilt_dropout=0.1),
        backbone=replace(settings.backbone, steps=5_000, decay=0.1),
        tilt=replace(
            settings.tilt,
            steps=1_000,
            particles=4_096,
            batch_data=512,
            batch_particles=1_024,
            rate=5e-3,
            decay=0.03,
            judge_every=3,
        ),
    )


def suited_vae(rows: int, shape: tuple[int, ...]) -> Settings:
    """The default settings with a variational autoencoder and a tilt of its z.

    Of many rows the tilt begins with a mixture fitted by expectation maximisation, whose draws
    are exact: chains jump to them, and learning starts in equilibrium. Of few rows contrast
    brings most of the gain in a fraction of the time, and maximum likelihood goes on from there.
    """
    settings, images = Settings(), len(shape) > 1
    many = rows >= MANY_ROWS
    sizes = VAESizes(width=512 if many else 128, z_dim=(32 if many else 16) if images else 2)
    model = replace(settings.model, backbone="vae", vae=sizes, tilt_width=256, tilt_dropout=0.0)
    few = replace(
        settings,
        model=model,
        vae=VAESettings(steps=3_000),
        tilt=replace(
            settings.tilt,
            learner="nce+mle",
            nce_steps=2_000,
            steps=4_000,
            particles=1_024,
            decay=0.01,
            judge_every=5,
        ),
        sampling=replace(settings.sampling, chains=64, draws=1_000, far=True),
    )
    if not many:
        return few
    return replace(
        few,
        model=replace(model, components=64 if images else 32),
        vae=VAESettings(steps=8_000),
        tilt=replace(
            settings.tilt,
            steps=2_000,
            particles=4_096,
            batch_data=512,
            batch_particles=1_024,
            rate=5e-4,
            share_end=0.5,
            judge_every=3,
        ),
    )
