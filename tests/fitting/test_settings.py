"""Settings by the size of the data."""

from tiltflow.fitting.settings import Settings, suited, suited_glow, suited_to, suited_vae


def test_small_data_keep_the_defaults():
    assert suited(1_300, 64) == Settings()
    assert suited(5_000, 784) == Settings()


def test_many_rows_are_held_back_less():
    settings = suited(10_000, 27)
    settings.check(seed=0)
    assert settings.model.flow_dropout < Settings().model.flow_dropout
    assert settings.tilt.particles > Settings().tilt.particles
    assert settings == suited(50_000, 10)


def test_every_backbone_has_settings_that_suit_it():
    for rows in (1_000, 60_000):
        assert suited_to("glow", rows, (28, 28)) == suited_glow(rows, (28, 28))
        assert suited_to("vae", rows, (28, 28)) == suited_vae(rows, (28, 28))
        assert suited_to(None, rows, (28, 28)) == suited(rows, 784)
        suited_glow(rows, (28, 28)).check(seed=0)
    grey, colours = (suited_glow(60_000, shape).model.glow for shape in ((28, 28), (32, 32, 3)))
    assert colours.width > grey.width


def test_tables_of_up_to_256_columns_have_an_ensemble():
    for columns, backbone in (
        (2, "ensemble"),
        (65, "ensemble"),
        (256, "ensemble"),
        (257, "coupling"),
    ):
        settings = suited_to(None, 1_000, (columns,))
        settings.check(seed=0)
        assert settings.model.backbone == backbone
    many, very_many = (suited_to(None, 1_000, (columns,)) for columns in (64, 65))
    assert many.tilt.learner == very_many.tilt.learner == "nce+linear"
    assert very_many.members.flows < many.members.flows


def test_a_vae_of_many_images_begins_its_tilt_with_a_mixture():
    few, many = suited_vae(1_000, (8, 8)), suited_vae(54_000, (28, 28))
    for settings in (few, many, suited_vae(54_000, (10,))):
        settings.check(seed=0)
        assert settings.model.backbone == "vae"
        assert settings.sampling.far
    assert (few.model.components, few.tilt.learner) == (0, "nce+mle")
    assert (many.model.components, many.tilt.learner) == (100, "population")
