"""Hide the lower half of some digits and let the chains of a learned model paint it: a minute.

tiltflow fit digits --backbone coupling --out runs/coupling
python examples/inpainting.py [RUN] [--quick]

Printed is how far the hidden pixels are from the truth, root mean square of grey levels 0 to 16:
of the mean over all draws of a digit, and of the mean training image; and whether chains agree.
inpainting.png shows, in a row, truth, what is seen (the rest is grey), and a draw of ten chains
each.
"""

import sys

import matplotlib.image
import numpy as np

import tiltflow
from tiltflow.diagnostics.convergence import rhat
from tiltflow.model.inpainting import inpaint
from tiltflow.report.images import mosaic

HIDDEN = 3  # the grey of what is not seen

quick = "--quick" in sys.argv
paths = [argument for argument in sys.argv[1:] if argument != "--quick"]
model = tiltflow.load_model(f"{paths[0] if paths else 'runs/coupling'}/model")
data = tiltflow.load_data("digits")
parts = tiltflow.data.split(data)

seen = np.arange(8)[:, None] * np.ones((1, 8)) < 4  # the upper half
typical = data.values[parts.train].mean(axis=0)
rows, found = [], []
for number, image in enumerate(data.values[parts.test[: 2 if quick else 8]]):
    x, latent = inpaint(
        model, image, seen, sigma=1.0, chains=16, draws=50 if quick else 300,
        warmup=50 if quick else 200, seed=number,  # one for all: the same accidents in all rows
    )  # fmt: skip
    guesses = (x.mean(axis=(0, 1)), typical)
    errors = [np.sqrt(np.mean((guess - image)[~seen] ** 2)) for guess in guesses]
    found.append(errors)
    rows += [image, np.where(seen, image, HIDDEN), *x[:10, -1]]
    agree = float(rhat(latent.summaries["f"]))
    print(
        f"draws {errors[0]:.2f}   mean image {errors[1]:.2f}   R-hat of f {agree:.3f}", flush=True
    )
draws, mean_image = np.mean(found, axis=0)
print(f"all: draws {draws:.2f}   mean image {mean_image:.2f}")
sheet = mosaic(np.asarray(rows, float), 12, 0, 16, gaps=(0.25, 0.25))
matplotlib.image.imsave("inpainting.png", np.kron(sheet, np.ones((8, 8, 1))))
