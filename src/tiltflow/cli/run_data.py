"""The data that a run was fitted to, found again and recognised."""

from typing import TYPE_CHECKING

from tiltflow.errors import InputError

if TYPE_CHECKING:
    from tiltflow.data import Dataset
    from tiltflow.runs import RunStore


def run_data(store: "RunStore") -> "Dataset":
    """All rows of the run's data.

    Raises:
        InputError: they are not where the configuration says, or are not the same any more.
    """
    from tiltflow.data import load

    config = store.config().get("data")
    if not isinstance(config, dict) or not isinstance(config.get("source"), str):
        raise InputError(
            f"{store.path / 'config.toml'} does not say where its data are; expected source = "
            f"'...' under [data]: correct it, or fit again"
        )
    dataset = load(
        config["source"],
        key=config.get("key"),
        image_size=config.get("image_size"),
        channels=config.get("channels"),
    )
    if config.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise InputError(
            f"{config['source']} is not what {store.path} was fitted to: its test rows would not "
            f"be held out; bring the file back"
        )
    return dataset
