"""The stages of learning, one after the other: backbone, mixture, tilt, and a tilt of the data.

The last two are those of a generator. A tilt of its z alone comes first: its chains have as few
dimensions as z, whatever the data (`backbones/prior.py`). A tilt of the data then goes on top, with
z and the generator's noise as latent variables, and starts in equilibrium from draws of the first.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.random as jr
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Ensemble, Prior
from tiltflow.backbones.own import as_backbone
from tiltflow.evaluation.generated import classes_of
from tiltflow.evaluation.quality.features import Features
from tiltflow.fitting.linear import foresee_linear, learn_linear
from tiltflow.fitting.members import with_members
from tiltflow.fitting.own_parts import OwnParts
from tiltflow.fitting.recipes import (
    begin_backbone,
    begin_tilt,
    learn_backbone,
    specification,
)
from tiltflow.fitting.settings import Settings
from tiltflow.fitting.stages import Listen, Stages
from tiltflow.learning import Rows, fit_tilt
from tiltflow.learning.fit_members import weighed
from tiltflow.learning.fit_mixture import fit_mixture
from tiltflow.learning.keeping import Keeper
from tiltflow.learning.second_tilt import second_start
from tiltflow.learning.state import LINEAR
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.specs import GaussianSpec, ModelSpec, Spec, VAESpec
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.ahead import Ahead
from tiltflow.tilts import MixtureTilt


@dataclass(frozen=True, eq=False)
class Learned:
    """What `train` returns.

    Attributes:
        spec: what the model is made of.
        model: backbone and tilt.
        first: the model after its first tilt, where a second was learned; else None.
        nll_val: of the backbone, on validation rows, in nats; or the bound of it.
        judgement: that the last tilt was kept for.
        ended: the keeper's clock at the end of each stage.
    """

    spec: Spec
    model: TiltedModel
    first: TiltedModel | None
    nll_val: float
    judgement: Judgement
    ended: dict[str, float]


def train(
    train: Rows,
    val: Rows,
    settings: Settings,
    *,
    features: Features,
    keys: Mapping[str, PRNGKeyArray],
    listen: Listen,
    keeper: Keeper,
    own: OwnParts,
    labels: Collection[int],
    ahead: Ahead,
    later: Callable[[TiltedModel], Any],
) -> Learned:
    """Learn a tilted model from `train`, judged by `val`.

    Args:
        train, val: rows, both in the same units.
        settings: of all stages.
        features: whose classes are watched where the backbone is a generator.
        keys: random keys: `flow`, `backbone`, `tilt` and `learn`.
        listen: called as (phase, event, **fields) while it goes on.
        keeper: of states and results.
        own: parts that are not as the settings say.
        labels: the columns of a table that are labels, without an order.
        ahead: compiles what the tilt of an ensemble will need while its members are learned.
        later: what is done with such a model after learning, of which the same holds.

    Raises:
        InputError: settings that cannot work.
        Interrupted: the keeper was asked to stop.
    """
    stages = Stages(keeper, {})
    how = {"listen": listen, "keeper": keeper}
    spec = specification(settings.model, train.units) if own.backbone is None else None
    if spec is None:
        begun = as_backbone(own.backbone, train.units, key=keys["flow"])
    else:
        begun = begin_backbone(spec, train.units, key=keys["flow"])
    backbone, nll_val = stages.run(
        "backbone",
        begun,
        lambda: learn_backbone(
            begun, train, val, settings, key=keys["backbone"], kept=not own.learns_backbone, **how
        ),
    )
    of_tilt = settings.tilt
    if of_tilt.learner in LINEAR and (own.makes_tilt or own.stage is not None):
        of_tilt = replace(of_tilt, learner="population")  # what is the user's own has no members
    left = None  # seconds of a budget
    contrasted = None  # the network of a contrast beside a linear tilt, before it is learned
    if isinstance(spec, ModelSpec) and of_tilt.learner == "nce+linear":
        contrasted, _ = begin_tilt(spec, None, of_tilt.particles, key=keys["tilt"])
    if isinstance(spec, ModelSpec) and settings.model.backbone == "ensemble":

        def foreseen(alike: Ensemble) -> None:
            weighed(alike.transport, alike.members, val.through(alike), key=keys["learn"])
            if of_tilt.learner in LINEAR:
                later(foresee_linear(alike, contrasted, train, val, of_tilt, key=keys["learn"]))

        backbone, spec, nll_val, left = with_members(
            stages,
            backbone,
            spec,
            train,
            val,
            settings,
            labels=labels,
            key=jr.fold_in(keys["backbone"], 1),
            foresee=lambda alike: ahead.call(lambda: foreseen(alike)),
            is_compiled=lambda: ahead.is_done,
            **how,
        )
    mixture = None
    if isinstance(spec, VAESpec | GaussianSpec) and (components := spec.components):
        listen("mixture", "started", components=components)
        mixture, _ = stages.run(
            "mixture",
            MixtureTilt.standard(components, backbone.dim),
            lambda: (
                fit_mixture(train.through(backbone), components, key=jr.fold_in(keys["tilt"], 2)),
                None,
            ),
        )
    network, start = None, None
    if spec is None or own.makes_tilt:
        zero, network = own.begin_tilt(backbone, settings.model, key=keys["tilt"])
    else:
        zero, start = begin_tilt(spec, mixture, settings.tilt.particles, key=keys["tilt"])
    classes = classes_of(backbone, features)
    if of_tilt.learner in LINEAR:
        assert isinstance(backbone, Ensemble)
        assert isinstance(spec, ModelSpec)
        tilt, judgement, spec = learn_linear(
            stages, backbone, contrasted, zero, spec, train, val, of_tilt,
            key=keys["learn"], listen=listen, left=left,
        )  # fmt: skip
    else:
        (tilt, judgement), _ = stages.run(
            "tilt",
            (zero, Judgement.nothing()),
            lambda: (
                fit_tilt(
                    backbone, zero, train, val, of_tilt, key=keys["learn"], start=start,
                    classes=classes, stage=own.stage, **how,
                )[:2],
                None,
            ),
        )  # fmt: skip
    model, first = TiltedModel(backbone, tilt), None
    if isinstance(vae := spec, VAESpec) and vae.data_width and isinstance(backbone, Prior):
        first, generator, of_latent = model, backbone.generator, tilt
        begin_key, learn_key = jr.split(jr.fold_in(keys["learn"], 1))
        both = vae.second_tilt(tilt, key=jr.fold_in(keys["tilt"], 3))
        (tilt, judgement), _ = stages.run(
            "data_tilt",
            (both, judgement),
            lambda: (
                fit_tilt(
                    generator, both, train, val, settings.data_tilt, key=learn_key,
                    start=second_start(
                        begin_key, backbone, of_latent, judgement, settings.data_tilt.particles
                    ),
                    classes=classes_of(generator, features), phase="data_tilt", **how,
                )[:2],
                None,
            ),
        )  # fmt: skip
        model = TiltedModel(generator, tilt)
    if spec is None or own.makes_tilt:
        spec = own.specification(model, spec, network)
    return Learned(spec, model, first, nll_val, judgement, stages.ended)
