"""Settings that suit the size of the data: small data want restraint, many rows allow more."""

from dataclasses import replace

from tiltflow.experiment import Settings

MANY_ROWS = 5_000


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
        model=replace(settings.model, blocks=5, flow_width=96, flow_dropout=0.0, tilt_dropout=0.1),
        backbone=replace(settings.backbone, steps=4_000, decay=0.1),
        tilt=replace(
            settings.tilt,
            steps=2_000,
            particles=4_096,
            batch_data=512,
            batch_particles=1_024,
            rate=3e-3,
            decay=0.03,
            judge_every=3,
        ),
    )
