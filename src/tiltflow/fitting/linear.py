"""The tilt of an ensemble that needs no chain: its members weighed anew, and a contrast beside."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Ensemble
from tiltflow.fitting.stages import Listen, Stages
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.fit_linear import fit_linear, tells_kinds
from tiltflow.learning.nce import fit_nce
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.specs import ModelSpec
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import LinearTilt, Tilt


def foresee_linear(
    ensemble: Ensemble,
    network: Tilt | None,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
) -> TiltedModel:
    """Call all that `learn_linear` calls, with an ensemble of the same shapes.

    Returns a model such as that will make.
    """
    if network is not None:
        fit_nce(ensemble, network, train, val, settings, key=key)
    fit_linear(ensemble, train, val, settings, key=key, network=network)
    kinds = tells_kinds(ensemble)
    return TiltedModel(ensemble, LinearTilt.zero(ensemble, network, kinds=kinds))


def learn_linear(
    stages: Stages,
    ensemble: Ensemble,
    network: Tilt | None,
    zero: Tilt,
    spec: ModelSpec,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    listen: Listen,
    left: Callable[[], float] | None = None,
) -> tuple[Any, Judgement, ModelSpec]:
    """The linear tilt, or `zero` where it is not worth having; and what the model is made of.

    Args:
        stages: the contrast is one, and the tilt.
        ensemble: that is tilted.
        network: that contrast learns, before it learned anything; None: there is none.
        zero: a tilt that is 0.
        spec: of the ensemble and of `zero`.
        train, val: rows.
        settings: of both.
        key: random key.
        listen: is told of both.
        left: seconds of a budget that are left for the contrast.

    Raises:
        Interrupted: the keeper was asked to stop.
    """
    if network is not None:

        def contrast(begun: Tilt = network) -> tuple[Tilt, float]:
            keeper = stages.keeper
            found, told = fit_nce(
                ensemble, begun, train, val, settings, key=key, listen=listen, keeper=keeper,
                left=left,
            )  # fmt: skip
            return found, told.loss

        network, _ = stages.run("contrast", network, contrast)

    def weigh() -> tuple[Any, float]:
        tilt, judgement, told = fit_linear(
            ensemble, train, val, settings, key=key, network=network, listen=listen
        )
        return (tilt, judgement), float(told.is_taken)

    kinds = tells_kinds(ensemble)
    like = (LinearTilt.zero(ensemble, network, kinds=kinds), Judgement.nothing())
    (tilt, judgement), is_taken = stages.run("tilt", like, weigh)
    if not is_taken:
        return zero, judgement, spec
    return tilt, judgement, replace(spec, linear=True, contrast=network is not None, kinds=kinds)
