"""All settings of `fit`, and those that suit the size of the data."""

import math
from dataclasses import dataclass, field, replace

from tiltflow.backbones.glow import GlowSizes
from tiltflow.backbones.units.fitting import KINDS
from tiltflow.backbones.vae import VAESizes
from tiltflow.errors import InputError, at_least_one, check_seed
from tiltflow.evaluation.chains import DEAR, OF_DRAWS, SamplingSettings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.learning.fit_members import MemberSettings
from tiltflow.learning.fit_vae import VAESettings
from tiltflow.learning.state import LINEAR
from tiltflow.mcmc.catalogue import REPLICAS
from tiltflow.tilts import ConvSizes

BACKBONES = ("coupling", "ensemble", "gaussian", "glow", "vae")
MOST_COLUMNS = 256  # or pixels, of data whose backbone is an ensemble, if nobody says
MANY_COLUMNS = 32  # from there on a contrast is worth its time
VERY_MANY_COLUMNS = 65  # from there on one long flow is worth more than some
FEW_ROWS, MANY_ROWS, VERY_MANY_ROWS = 2_500, 5_000, 20_000
# A high rate makes f walk at random in hundreds of dimensions, and the gain comes as it falls.
DATA_TILT = TiltSettings(
    steps=1_600,
    particles=2_048,
    batch_data=512,
    batch_particles=1_024,
    rate=2e-4,
    decay=0.01,
    share_end=0.5,
    least_transitions=3,
    leapfrogs=6,
    bank=2_000,
    judge_rows=5_000,
    judge_draws=1,
    judge_every=3,
)


@dataclass(frozen=True)
class ModelSettings:
    """The backbone, the sizes of the networks, and the units; as in `specs.ModelSpec`.

    Attributes:
        backbone: `"coupling"`; `"ensemble"`, that and its `members`; `"gaussian"`, a normal
            density; `"glow"` for images, whose networks are in `glow`, and those of its
            convolutional tilt in `conv`; or `"vae"`, whose networks are in `vae`.
        components: of the mixture that the tilt of a VAE or a Gaussian begins with; 0: none.
        classes: whether the tilt tells the labels of the data apart (`tilts.ClassTilt`): then the
            likelihood of rows and labels together is learned.
        data_width: of the hidden layers of a second tilt of a VAE, which reads x, for images a
            convolutional one with the channels of `conv`; 0: there is none.
        noise: of N(0, noise^2), in standard deviations of a column, that is added to each row
            afresh whenever it is drawn. What is learned is the density of such rows, which is
            smooth where rows repeat or lie in a thin layer; integers are not dequantised then.
            0: rows as they are.
    """

    backbone: str = "coupling"
    vae: VAESizes = field(default_factory=VAESizes)
    glow: GlowSizes = field(default_factory=GlowSizes)
    conv: ConvSizes = field(default_factory=ConvSizes)
    components: int = 0
    classes: bool = False
    data_width: int = 0
    units: str = "auto"
    blocks: int = 2
    flow_width: int = 256
    flow_dropout: float = 0.2
    tilt_width: int = 256
    tilt_depth: int = 2
    tilt_dropout: float = 0.3
    noise: float = 0.0


@dataclass(frozen=True)
class Settings:
    """All settings of `fit`; each part has its defaults and explanations in its own class.

    `data_tilt` is the learning of the second tilt, if `model.data_width` asks for one.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    members: MemberSettings = field(default_factory=MemberSettings)
    vae: VAESettings = field(default_factory=VAESettings)
    tilt: TiltSettings = field(default_factory=TiltSettings)
    data_tilt: TiltSettings = field(default_factory=lambda: DATA_TILT)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def check(self, seed: int) -> None:
        """Raises InputError for the first setting that cannot work, or a negative seed."""
        check_seed(seed)
        at_least_one(self.model, "flow_width", "tilt_width", "tilt_depth")
        least = 0 if self.model.backbone == "ensemble" else 1
        if self.model.blocks < least:
            raise InputError(
                f"blocks is {self.model.blocks}; expected at least {least} of a flow (0, one "
                f"normal density, only beneath an ensemble)"
            )
        if self.model.components < 0:
            raise InputError(
                f"components is {self.model.components}; expected 0 for no mixture, or a number"
            )
        self.backbone.check()
        self.members.check()
        self.tilt.check()
        self._check_second()
        self.vae.check()
        self.model.vae.check()
        self.model.glow.check()
        self.model.conv.check()
        if self.model.backbone not in BACKBONES:
            raise InputError(
                f"backbone {self.model.backbone!r}; expected one of {', '.join(BACKBONES)}"
            )
        if self.members.budget and self.model.backbone != "ensemble":
            raise InputError(
                f"a budget with backbone {self.model.backbone!r}; expected an ensemble, whose "
                f"members it plans: use --time-limit"
            )
        if self.tilt.learner in LINEAR and self.model.backbone != "ensemble":
            raise InputError(
                f"learner {self.tilt.learner!r} with backbone {self.model.backbone!r}; expected an "
                f"ensemble, whose members it weighs: use population"
            )
        self.sampling.check()
        for name in ("flow_dropout", "tilt_dropout"):
            if not 0 <= getattr(self.model, name) < 1:
                raise InputError(f"{name} is {getattr(self.model, name)}; expected [0, 1)")
        if not 0 <= self.model.noise < math.inf:
            raise InputError(f"noise is {self.model.noise}; expected 0 or a positive number")
        if self.model.units not in ("auto", *KINDS):
            raise InputError(f"units {self.model.units!r}; expected auto, {', '.join(KINDS)}")

    def _check_second(self) -> None:
        """Raises InputError for a second tilt that cannot be."""
        width = self.model.data_width
        if width < 0:
            raise InputError(f"data_width is {width}; expected 0 for no second tilt, or a width")
        if width and self.model.backbone != "vae":
            raise InputError(
                f"data_width is {width} with backbone {self.model.backbone!r}, whose tilt reads "
                f"the data anyway; expected 0, or backbone 'vae'"
            )
        self.data_tilt.check()
        if self.data_tilt.learner not in ("population", "persistent"):
            raise InputError(
                f"learner {self.data_tilt.learner!r} of the second tilt; expected population or "
                f"persistent: it starts in equilibrium"
            )


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


def suited_ensemble(rows: int, shape: tuple[int, ...]) -> Settings:
    """The default settings with an ensemble, for `rows` training rows of `shape`.

    Exact draws are near the model, so that there are many particles and few moves, and chains are
    short: each transition is a fresh draw. Where columns or pixels are not very many a linear tilt
    takes seconds, and beneath the members lies one normal density: no chain has to find its
    way there. Of many columns a contrast finds more, and of few rows of them more flows do (on the
    digits 0.8 nats by contrast, and 0.7 by six flows in place of three, of which five take a tenth
    of the time less and are 0.15 behind; on 21 columns contrast has 0.03; on 182 it has 3, and the
    second flow 3.4 by more steps, beside which the first is worth 0.3).
    """
    settings, many, columns = Settings(), rows >= MANY_ROWS, math.prod(shape)
    is_small, are_many = columns <= MOST_COLUMNS, MANY_COLUMNS <= columns <= MOST_COLUMNS
    flows = 2 if many else 5 if are_many and columns < VERY_MANY_COLUMNS else 3
    tilt = replace(
        settings.tilt,
        steps=4_000,
        particles=4_096,
        batch_particles=512,
        share_end=0.3,
        check_every=20,
        least_transitions=8,
        most_transitions=60,
        judge_every=1,
        patience=3,
        bank=10_000,
    )
    if is_small:
        tilt = replace(tilt, learner="nce+linear" if are_many else "linear")
    if are_many:
        tilt = replace(tilt, nce_steps=4_000, decay=0.01, memory=0.99, bank=40_000)
    return replace(
        settings,
        model=replace(
            settings.model,
            backbone="ensemble",
            blocks=0 if is_small else settings.model.blocks,
            tilt_width=128,
            tilt_dropout=0.1 if many else 0.2 if are_many else 0.3,
        ),
        backbone=replace(
            settings.backbone, steps=1_000, decay=0.1 if many else settings.backbone.decay
        ),
        members=MemberSettings(
            mixtures=max(4, flows),
            flows=flows,
            steps=1_000 if rows < FEW_ROWS else 2_000,
            width=64 if rows < FEW_ROWS or rows >= VERY_MANY_ROWS else 128,
            dropout=0.0 if rows >= VERY_MANY_ROWS else 0.05 if many else 0.1,
            batch=256 if many else 128,
            rate=2e-3 if rows < FEW_ROWS else 3e-3,
        ),
        tilt=tilt,
        sampling=replace(settings.sampling, **OF_DRAWS),
    )


def suited_to(
    backbone: str | None, rows: int, shape: tuple[int, ...], learner: str | None = None
) -> Settings:
    """The settings that suit `rows` training rows of `shape`.

    Of tables and small images, backbone None is an ensemble: of very many numbers or of one, and
    for a learner that needs gradients in the latent space, the coupling flow.
    """
    is_small = 2 <= math.prod(shape) <= MOST_COLUMNS
    if backbone is None and is_small and learner in (None, *LINEAR, "population"):
        backbone = "ensemble"
    if backbone == "ensemble":
        return suited_ensemble(rows, shape)
    if backbone == "glow":
        return suited_glow(rows, shape)
    if backbone == "vae":
        return suited_vae(rows, shape)
    settings = suited(rows, math.prod(shape))
    if backbone == "gaussian":
        return replace(settings, model=replace(settings.model, backbone=backbone))
    return settings


def suited_glow(rows: int, shape: tuple[int, ...]) -> Settings:
    """The default settings with a Glow and a convolutional tilt, for images of `shape`.

    A pass through a Glow is dear, so that there are fewer particles, judged by fewer draws, and
    fewer and shorter chains than elsewhere. Where there are few rows both networks are smaller.
    """
    settings = Settings()
    many = rows >= MANY_ROWS
    colours = shape[2] if len(shape) > 2 else 1
    sizes = GlowSizes(steps=8, width=(32 if colours == 1 else 64) if many else 16)
    conv = ConvSizes(channels=16 if colours == 1 else 32, width=128, dropout=0.0 if many else 0.3)
    return replace(
        settings,
        model=replace(settings.model, backbone="glow", glow=sizes, conv=conv),
        backbone=replace(
            settings.backbone,
            steps=20_000 if many else 4_000,
            batch=64,
            rate=1e-3,
            decay=0.0 if many else 0.1,
            patience=8,
            val_rows=1_000,
            val_draws=1,
        ),
        tilt=replace(
            settings.tilt,
            steps=3_000,
            particles=1_024,
            batch_data=512,
            batch_particles=512,
            rate=1e-4,
            decay=0.01,
            memory=0.97,
            leapfrogs=12,
            moved_at_once=256,
            share_end=0.4,
            check_every=5,
            least_steps=20,
            least_transitions=2,
            bank=2_000,
            judge_rows=2_000,
            judge_draws=1,
            judge_every=3,
            fresh_every=4,
            fresh_replicas=REPLICAS,
            fresh_chains=16,
            fresh_transitions=300,
        ),
        sampling=replace(settings.sampling, leapfrogs=12, calibrate=True, **DEAR),
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
    model = replace(
        settings.model,
        backbone="vae",
        vae=sizes,
        conv=ConvSizes(channels=8),
        tilt_width=256,
        tilt_dropout=0.0,
    )
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
        model=replace(model, components=100 if images else 32),
        vae=VAESettings(steps=8_000),
        tilt=replace(
            settings.tilt,
            steps=2_000,
            particles=4_096,
            batch_data=512,
            batch_particles=1_024,
            rate=1e-4,
            share_end=0.5,
            judge_every=3,
        ),
    )
