"""`tiltflow data inspect SOURCE`."""

from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from tiltflow.cli.options import Atoms, Columns, Json, kinds_by_name

app = cyclopts.App(name="data", help="Look at data before anything is learned from them.")


@app.command
def inspect(
    source: Annotated[
        str,
        Parameter(
            help="A .npy, .npz, .csv, .tsv, .parquet or idx file, a folder of images, or digits, "
            "mnist, fashion-mnist, cifar10."
        ),
    ],
    /,
    *,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    image_size: Annotated[
        int | None,
        Parameter(help="Scale and cut the pictures of a folder to squares of so many pixels."),
    ] = None,
    channels: Annotated[
        Literal["grey", "rgb"] | None, Parameter(help="Convert the pictures of a folder.")
    ] = None,
    integers: Annotated[
        bool | None,
        Parameter(negative="--continuous", help="What the values are, whatever they look like."),
    ] = None,
    column: Columns = None,
    atoms: Atoms = None,
    images: Annotated[
        bool,
        Parameter(negative=(), help="They must be images of 8 bits: refuse them if they are not."),
    ] = False,
    json: Json = False,
) -> int:
    """Say what is in SOURCE: rows, types, ranges, what repeats; and what `fit` makes of it.

    Exits with status 2 where SOURCE cannot be read. Data that can be read but not fitted are
    described, with the reason.
    """
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_data import show_data
    from tiltflow.data.image_checks import refuse_no_images
    from tiltflow.data.inspect import inspect as look
    from tiltflow.data.scan import scan
    from tiltflow.data.sources import read, texts_for

    columns = kinds_by_name(column)
    texts = texts_for(columns)
    found = read(source, key=key, image_size=image_size, channels=channels, texts=texts)
    if images:
        refuse_no_images(found.array, scan(found.array), found.where)
    integers = True if images and integers is None else integers
    seen = look(found, integers=integers, columns=columns, atoms=atoms or "keep")
    told = seen.to_dict()
    if seen.kept is not None:
        told["fit"] |= _units(seen.kept)
    if json:
        show_json(told)
    else:
        show_data(told)
    return 0


def _units(data: Any) -> dict[str, Any]:
    """The units that `tiltflow fit` would choose, or why it would not."""
    from tiltflow.backbones import fit_units
    from tiltflow.errors import InputError
    from tiltflow.model.specs import specify

    try:
        values = data.values if data.grid is None else data.grid.to_cells(data.values)
        units = specify(fit_units("auto", values, integers=data.integers, grid=data.grid)).units
    except InputError as error:
        return {"accepts": False, "refusal": str(error)}
    # Both are one affine map, and auto never whitens.
    return {"units": "standardise" if units == "whiten" else units}
