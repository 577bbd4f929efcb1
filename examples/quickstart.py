"""Learn the digits, look at a few numbers, draw, score, save: a few minutes.

python examples/quickstart.py [--quick]
"""

import sys

import tiltflow
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.fitting.settings import ModelSettings
from tiltflow.learning import BackboneSettings, TiltSettings

data = tiltflow.load_data("digits")
settings = tiltflow.Settings()
if "--quick" in sys.argv:  # for tests: everything runs, nothing is learned
    settings = tiltflow.Settings(
        model=ModelSettings(blocks=1, flow_width=32, tilt_width=32, tilt_depth=1),
        backbone=BackboneSettings(steps=250, batch=64),
        tilt=TiltSettings(steps=60, particles=256, batch_particles=128, bank=2_000),
        sampling=SamplingSettings(chains=16, draws=20, exact_draws=20_000),
    )
result = tiltflow.fit(data, settings, seed=0)

print(result.metrics["gain_nats"], result.metrics["verdict"]["text"])
print(result.model.log_prob(data.values[:3]))  # nats, data units
x, latent = result.model.sample(chains=16, draws=50)  # x: [16, 50, 8, 8]
result.model.save("runs/my-digits-model")
again = tiltflow.load_model("runs/my-digits-model")
print(again.log_prob(data.values[:3]))
