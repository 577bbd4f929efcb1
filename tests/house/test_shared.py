"""What tests share is made once, whole or not at all, whoever asks."""

import subprocess
import sys
from pathlib import Path

import pytest
from shared import Shared

ASK = """
import sys, time
from pathlib import Path
from shared import Shared

def make(folder):
    time.sleep(0.2)
    (folder / "made").touch()
    with (Path(sys.argv[1]) / "log").open("at") as log:
        log.write("made\\n")

assert (Shared(Path(sys.argv[1])).folder("a", make) / "made").exists()
"""


def test_it_is_made_once_by_several_processes(tmp_path):
    """The twin: two names are made twice."""
    here = Path(__file__).parents[1]  # where `shared.py` is
    asking = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=here)
        for code in (ASK, ASK, ASK.replace('"a"', '"b"'))
    ]
    assert [process.wait() for process in asking] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\nmade\n"


def test_what_could_not_be_made_is_not_there(tmp_path):
    def fails(folder):
        (folder / "half").touch()
        raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        Shared(tmp_path).folder("a", fails)
    found = Shared(tmp_path).folder("a", lambda folder: (folder / "whole").touch())
    assert [entry.name for entry in found.iterdir()] == ["whole"]
