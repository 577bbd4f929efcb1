"""What the tests of one run share: compiled programs, what was fitted, and a bound on memory maps.

Programs here are many and small: compiling them is most of what takes time. They are compiled with
few optimisations (`JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` has more), each in one piece and
without the newer emitters of fused operations, which halves the time; and once: JAX keeps them
in a folder of this run, for its workers and for the processes that tests start. Bits are the same
compiled or read from there. A folder that outlived the run would be read by another machine.

A module of tests whose programs run for longer than they compile says `OPTIMISED = True`.
"""

import gc
import os
import shutil
import tempfile
from contextlib import nullcontext
from importlib.metadata import version

import pytest
from optimised import optimised
from shared import Shared

if version("jaxlib").startswith("0.10."):  # another one may end at a flag that it does not know
    QUICKLY = (
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_multi_thread_eigen=false",  # each worker has a core
        "--xla_backend_optimization_level=1",  # of what is optimised: another quarter of the time
    )
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in QUICKLY if flag not in given), *given])
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # nobody reads lines in programs
os.environ["TILTFLOW_CACHE"] = "off"  # commands keep nothing in the user's folder

gc.set_threshold(50_000)  # traces are many small objects that live on

MADE_HERE = "JAX_COMPILATION_CACHE_DIR" not in os.environ  # workers find that of the first process
if MADE_HERE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tiltflow-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_addoption(parser):
    parser.addoption("--backwards", action="store_true", help="run the tests in reversed order")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--backwards"):
        items.reverse()


def pytest_unconfigure():
    if MADE_HERE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """What is made once a run, by the worker that asks first; `shared.folder(name, make)`."""
    own = tmp_path_factory.getbasetemp()
    return Shared(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """With all optimisations, where the module says so; in the processes that it starts, too."""
    with optimised() if getattr(request.module, "OPTIMISED", False) else nullcontext():
        yield


@pytest.fixture(scope="module", autouse=True)
def few_maps():
    """Compiled programs are let go of before the process has too many memory maps."""
    yield
    from tiltflow.parallel.memory_maps import let_go_if_many

    let_go_if_many()
