"""The data that a run was fitted to, found again and recognised, and others like them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltflow.errors import InputError

if TYPE_CHECKING:
    from tiltflow.data import Dataset
    from tiltflow.model.fitted import FittedModel
    from tiltflow.runs import RunStore


def run_data(store: "RunStore") -> "Dataset":
    """All rows of the run's data.

    Raises:
        InputError: they are not where the configuration says, or are not the same any more.
    """
    from tiltflow.data import load, without_dependent

    config = _config(store)
    if not isinstance(config.get("source"), str):
        raise InputError(
            f"{store.path / 'config.toml'} does not say where its data are; expected source = "
            f"'...' under [data]: correct it, or fit again"
        )
    key, integers = config.get("key"), config.get("integers")
    source = _where(config["source"], store)
    how = {name: config[name] for name in ("columns", "atoms") if name in config}
    dataset = load(source, key=key, integers=integers, **how, **_pictures(config))
    if config.get("drop_dependent") is True:
        dataset = without_dependent(dataset)
    if config.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise InputError(
            f"{source} is not what {store.path} was fitted to: its test rows would not "
            f"be held out; bring the file back"
        )
    return dataset


def other_rows(store: "RunStore", data: str, key: str | None) -> "Dataset":
    """Rows for the run's model to score; pictures of a folder are read as the run's own were.

    Columns that have names are those that the model knows by them, and text has its labels.

    Raises:
        InputError: as `tiltflow.data.load`; a column that the model knows is not there.
    """
    from tiltflow.data import load

    known = _known(store)
    texts = _texts(store, known)
    dataset = load(data, key=key, to_score=True, texts=texts, **pictures_like(store, data))
    if known is None and (kept := _kept(store, dataset.shape)) is not None:
        return dataset.of_columns(kept)
    return dataset if known is None else dataset.by_name(known)


def pictures_like(store: "RunStore", data: str) -> dict[str, Any]:
    """How pictures of a folder are scaled and converted, as the run's own were; else nothing."""
    from tiltflow.data.sources import NAMES

    of_pictures = data not in NAMES and os.path.isdir(data)
    return _pictures(_config(store)) if of_pictures else {}


def _known(store: "RunStore") -> tuple[str, ...] | None:
    """The names that the run's model says it knows; of a damaged one, none."""
    from tiltflow.model.fitted import CONFIG, MODEL
    from tiltflow.runs import reading

    try:
        names = reading.read_json(store.folder / MODEL / CONFIG).get("columns")
    except InputError:
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _texts(store: "RunStore", known: tuple[str, ...] | None) -> Any:
    """The labels of text that the run's model says it knows; None: it knows none."""
    from tiltflow.data.categories import Levels, Texts
    from tiltflow.model.fitted import CONFIG, MODEL
    from tiltflow.runs import reading

    try:
        grid = reading.read_json(store.folder / MODEL / CONFIG).get("grid")
        told = grid.get("levels", {}).items() if isinstance(grid, dict) else ()
        levels = {int(i): Levels.from_list(labels) for i, labels in told}
        texts = {i: one.texts for i, one in levels.items() if one.are_text}
        names = {i: (known[i] if known else "") or str(i) for i in texts}
    except (InputError, ValueError, TypeError, AttributeError, IndexError):
        return None
    return Texts({n: texts[i] for i in texts for n in {names[i], str(i)}}) if texts else None


def _kept(store: "RunStore", shape: tuple[int, ...]) -> list[int] | None:
    """The places of the columns that the run's model knows in whole rows; None: it knows all."""
    from tiltflow.data.dependent import Dropped
    from tiltflow.model.fitted import CONFIG, MODEL
    from tiltflow.runs import reading

    try:
        told = reading.read_json(store.folder / MODEL / CONFIG)["dropped"]
        dropped = Dropped.from_dict(told, int(told["width"]) - len(told["dependences"]))
    except (InputError, KeyError, TypeError, ValueError):
        return None
    return dropped.kept if shape == (dropped.width,) else None


def columns_of(store: "RunStore", fitted: "FittedModel") -> tuple[str, ...] | None:
    """The names of the columns of the run's data; None: they have none, or nobody knows any more.

    Models of former versions do not say: then the data are looked at, where they are still there.
    """
    if fitted.columns is not None:
        return fitted.columns
    try:
        return run_data(store).columns
    except InputError:
        return None


def _where(source: str, store: "RunStore") -> str:
    """The source as it was named: from here, or from a folder above the run."""
    from tiltflow.data.sources import NAMES

    folders = [Path(), *store.path.resolve().parents]
    paths = [folder / source for folder in folders if source not in NAMES]
    return next((str(path) for path in paths if os.path.exists(path)), source)


def _config(store: "RunStore") -> dict[str, Any]:
    """What the configuration says of the data; nothing, if it has been damaged."""
    config = store.config().get("data")
    return config if isinstance(config, dict) else {}


def _pictures(config: dict[str, Any]) -> dict[str, Any]:
    """How pictures are scaled and converted."""
    return {name: config.get(name) for name in ("image_size", "channels")}
