"""The data that a run was fitted to, found again and recognised, and others like them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    config = _config(store)
    if not isinstance(config.get("source"), str):
        raise InputError(
            f"{store.path / 'config.toml'} does not say where its data are; expected source = "
            f"'...' under [data]: correct it, or fit again"
        )
    key, integers = config.get("key"), config.get("integers")
    dataset = load(config["source"], key=key, integers=integers, **_pictures(config))
    if config.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise InputError(
            f"{config['source']} is not what {store.path} was fitted to: its test rows would not "
            f"be held out; bring the file back"
        )
    return dataset


def other_rows(store: "RunStore", data: Path, key: str | None) -> "Dataset":
    """Rows for the run's model to score; pictures of a folder are read as the run's own were.

    Raises:
        InputError: as `tiltflow.data.load`.
    """
    from tiltflow.data import load

    how = _pictures(_config(store)) if data.is_dir() else {}
    return load(data, key=key, to_score=True, **how)


def _config(store: "RunStore") -> dict[str, Any]:
    """What the configuration says of the data; nothing, if it has been damaged."""
    config = store.config().get("data")
    return config if isinstance(config, dict) else {}


def _pictures(config: dict[str, Any]) -> dict[str, Any]:
    """How pictures are scaled and converted."""
    return {name: config.get(name) for name in ("image_size", "channels")}
