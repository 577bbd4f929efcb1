"""Learning a tilt: what it begins from, and what is kept of it; `stages.py` has the loop."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.errors import InputError
from tiltflow.learning import optimiser
from tiltflow.learning.early_stopping import Listener, silent
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.nce import fit_nce
from tiltflow.learning.rows import Rows
from tiltflow.learning.stages import STAGES, Best, Classes, Learning, Stage
from tiltflow.learning.start import Start, as_particles, begin, is_zero
from tiltflow.learning.state import LearnerState, TiltSettings
from tiltflow.learning.witnesses import Judge, Judgement
from tiltflow.parallel.devices import over_devices_once
from tiltflow.tilts import Tilt
from tiltflow.tilts.base import freeze, is_kept


def fit_tilt(
    backbone: Backbone,
    tilt: Tilt,
    train: Rows,
    val: Rows,
    settings: TiltSettings = TiltSettings(),  # noqa: B008 (frozen)
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
    start: Start | None = None,
    keeper: Keeper | None = None,
    classes: Classes | None = None,
    phase: str = "tilt",
    stage: Stage | None = None,
) -> tuple[Tilt, Judgement, LearnerState]:
    """Learn `tilt` by maximum likelihood, by contrast with the backbone, or by both in turn.

    What is kept is the average of the weights with the best held-out gain, as the witnesses
    judge it, at the level where E_p f = 0. A tilt that is zero starts from exact draws, any other
    from `start`, or else from a climb to it (`start.py`). `keeper` is offered the state after
    every stage of learning, as the stage `phase`, and the result of the contrast as `"nce"`.
    `classes`, a number and a function of coordinates `[n, dim]` to labels below it, has the
    witnesses' shares watched (`class_swings.py`). `phase` names the stage in events, and to
    `keeper`.
    `stage` learns in place of what the settings' `learner` names (`stages.Learner`); of one that
    has `keeps_last` the last average is kept, whatever the witnesses say.

    A tilt that has nothing to learn, such as a `Frozen` one, is judged and returned as it is.

    Returns the tilt, the judgement it was kept for, and the learner's last state.

    Raises:
        InputError: settings that cannot work, a tilt that is no `Tilt` or has no gradient, or a
            first tilt that is out of reach.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    settings.check()
    _checked(tilt, backbone)
    train = train.through(backbone)
    particles_key, judge_key, key = jr.split(key, 3)
    kept = is_kept(tilt)
    if settings.learner in ("nce", "nce+mle") and stage is None and not kept:
        if (found := keeper.finished("nce", tilt)) is None:
            nce_key = jr.fold_in(key, 1)
            tilt, _ = fit_nce(
                backbone, tilt, train, val, settings, key=nce_key, listen=listen, keeper=keeper
            )
            keeper.finish("nce", tilt, {})
        else:
            tilt = found[0]
        start = None
    start = start or begin(particles_key, backbone, tilt, settings.particles)
    particles = as_particles(start, backbone, tilt)
    state = LearnerState(
        tilt=tilt,
        average=tilt,
        adam=optimiser.ADAM.init(freeze(tilt)[0]),
        particles=particles,
        log_weights=jnp.zeros(settings.particles),
        log_z=start.log_z,
        log_z_learners=start.log_z,
        steps=jnp.asarray(0),
        gradients=jnp.asarray(0),
    )
    judge = Judge.gather(backbone, train, val, settings, tilt, particles, key=judge_key)
    if not is_zero(tilt, backbone):
        judge = judge.at(tilt, particles, start.log_z)
    learning = Learning(
        backbone, train, settings, listen, keeper, phase, classes, state, judge, key,
        stage or STAGES[settings.learner],
    )  # fmt: skip
    of_contrast = settings.learner == "nce" and stage is None
    learning.run(0 if of_contrast or kept else settings.steps)
    best = learning.best
    if getattr(stage, "keeps_last", False):
        last = learning.state
        judged = learning.judge.judge(last.average, last)
        judged = replace(judged, level=jnp.nan_to_num(judged.level))
        best = Best(last.average, judged, learning.number, int(last.steps))
    gain = float(best.judgement.gain_val)
    listen(phase, "kept", learner=settings.learner, stage=best.stage, step=best.step, gain_val=gain)
    if kept:
        return tilt, best.judgement.as_it_is, learning.state
    level = best.tilt.level + best.judgement.level
    return eqx.tree_at(lambda t: t.level, best.tilt, level), best.judgement, learning.state


def _checked(tilt: Tilt, backbone: Backbone) -> None:
    """Raises InputError for what cannot be learned as a tilt."""
    if not isinstance(tilt, Tilt):
        raise InputError(
            f"the tilt is a {type(tilt).__name__}; expected a tiltflow.tilts.Tilt: wrap a network "
            f"of your own in tiltflow.tilts.NetworkTilt"
        )
    one = jax.eval_shape(tilt, jax.ShapeDtypeStruct((backbone.dim,), jnp.float32))
    if one.shape != ():
        raise InputError(f"the tilt of one example has shape {one.shape}; expected a scalar")
    if is_kept(tilt):
        return
    if not bool(_has_gradient(tilt, backbone.dim)):
        raise InputError(
            "the tilt has no gradient in its parameters, so that it would stay as it is; expected "
            "one: a network that is zero by itself goes into NetworkTilt with gate=1"
        )


@over_devices_once
def _has_gradient(tilt: Tilt, dim: int) -> Array:
    """Whether f of some coordinates depends on any of its parameters."""
    c = jr.normal(jr.key(0), (8, dim))
    parameters, frozen = freeze(tilt)
    _, pull_back = jax.vjp(lambda p: jax.vmap(eqx.combine(p, frozen))(c), parameters)
    gradient = jax.tree.leaves(pull_back(jr.normal(jr.key(1), (8,))))
    return jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in gradient]))
