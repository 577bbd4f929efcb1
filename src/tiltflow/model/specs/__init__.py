"""What a model is made of, in plain values: enough to build it, or to build it again."""

from typing import Any

from tiltflow.errors import InputError
from tiltflow.model.specs.flow import ModelSpec, specify
from tiltflow.model.specs.gaussian import GaussianSpec, specify_gaussian
from tiltflow.model.specs.glow import GlowSpec, specify_glow
from tiltflow.model.specs.network import TILTS, NetworkSpec
from tiltflow.model.specs.parts import PartsSpec, of_parts
from tiltflow.model.specs.vae import VAESpec, specify_vae

WholeSpec = ModelSpec | VAESpec | GlowSpec | GaussianSpec
"""Of a model that is the library's in all its parts."""
Spec = WholeSpec | PartsSpec

__all__ = [
    "TILTS",
    "GaussianSpec",
    "GlowSpec",
    "ModelSpec",
    "NetworkSpec",
    "PartsSpec",
    "Spec",
    "VAESpec",
    "WholeSpec",
    "of_parts",
    "spec_from",
    "specify",
    "specify_gaussian",
    "specify_glow",
    "specify_vae",
]


def spec_from(values: Any) -> Spec:
    """The specification in a folder; one without a kind is of a coupling flow."""
    if isinstance(values, dict) and "kind" in values:
        if values["kind"] == PartsSpec.kind:
            return PartsSpec.from_dict(values, spec_from)
        for spec in (VAESpec, GlowSpec, GaussianSpec):
            if values["kind"] == spec.kind:
                return spec.from_dict(values)
        raise InputError(
            f"the model is of kind {values['kind']!r:.50}; expected {VAESpec.kind!r}, "
            f"{GlowSpec.kind!r}, {GaussianSpec.kind!r}, {PartsSpec.kind!r}, or none"
        )
    return ModelSpec.from_dict(values)
