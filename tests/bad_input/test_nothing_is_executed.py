"""No way in for a stranger's code: no pickle, no eval, in the package and around it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "benchmarks", "examples", "tests")
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
OUR_OWN = {
    "tests/test_sklearn.py": ("import pickle",),  # estimators, by scikit-learn's own means
    "tests/docs/test_code_blocks.py": ("exec", "compile"),  # the code in our documentation
    "tests/mutants/faults.py": ("compile",),  # whether a fault is Python: nothing is run
    "tests/mutants/run.py": ("compile",),
}
"""What a test reads back or runs because it has just written it itself."""
WRITERS = {"save", "write_array", "npy"}
"""In tests these may write a pickle, to see it refused."""


def found(source, *, tests=False):
    """What is forbidden in the text of a Python file, as `line: what`."""
    words = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        parts = {part for name in names for part in name.split(".")}
        words += [f"{node.lineno}: import {name}" for name in sorted(parts & MODULES)]
        if isinstance(node, ast.Call):
            words += [f"{node.lineno}: {name}" for name in _calls(node, tests)]
    return words


def _calls(node, tests):
    name = getattr(node.func, "id", "")
    if name in CALLS:
        yield name
    writes = tests and getattr(node.func, "attr", name) in WRITERS
    for keyword in node.keywords:
        refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not refused and not writes:
            yield "allow_pickle"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_has_a_way_in(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        words = found(path.read_text(), tests=folder == "tests")
        assert not [w for w in words if not w.endswith(OUR_OWN.get(name, ()))], name


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, dill",
        "from joblib import load",
        "import numpy.lib.pickle",
        "from six.moves import cPickle",
        "def f():\n    return eval('1')",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
    ],
)
def test_each_way_in_is_found(source):
    assert found(source)
    assert found(source, tests=True)


@pytest.mark.parametrize(
    "source", ["np.load(p, allow_pickle=False)", "model.eval()", "retrieval()"]
)
def test_what_is_no_way_in(source):
    assert not found(source)
