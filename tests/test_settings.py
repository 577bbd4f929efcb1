"""Settings by the size of the data."""

from tiltflow.settings import Settings, suited


def test_small_data_keep_the_defaults():
    assert suited(1_300, 64) == Settings()
    assert suited(5_000, 784) == Settings()


def test_many_rows_are_held_back_less():
    settings = suited(10_000, 27)
    settings.check(seed=0)
    assert settings.model.flow_dropout < Settings().model.flow_dropout
    assert settings.tilt.particles > Settings().tilt.particles
    assert settings == suited(50_000, 10)
