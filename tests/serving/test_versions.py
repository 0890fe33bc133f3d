"""Versions appear whole or not at all."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.versions import newest, numbered, publish, workplace

# Writes a version and kills itself at the n-th look at the file system.
WRITER = """
import os, signal, sys
from pathlib import Path
from serving.versions import publish, workplace

left = int(sys.argv[2])
events = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "fcntl.flock"}

def hook(event, arguments):
    global left
    if event in events:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
base = Path(sys.argv[1])
with workplace(base) as written:
    (written / "variables").mkdir(parents=True)
    (written / "saved_model.pb").write_text("graph")
    (written / "variables" / "data").write_text("weights")
    publish(written, base)
"""


def write(base: Path) -> Path:
    with workplace(base) as written:
        written.mkdir()
        (written / "saved_model.pb").write_text("graph")
        return publish(written, base)


@pytest.mark.slow
def test_killed_at_any_moment_a_writer_leaves_a_whole_version_or_none(tmp_path):
    base = tmp_path / "base"
    status, kills = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        kills += 1
        before = len(numbered(base)) if base.exists() else 0
        status = subprocess.run([sys.executable, "-c", WRITER, base, str(kills)]).returncode
        versions = numbered(base) if base.exists() else {}
        assert len(versions) - before in (0, 1)
        for version in versions.values():
            assert (version / "saved_model.pb").read_text() == "graph"
            assert (version / "variables" / "data").read_text() == "weights"
    assert status == 0
    assert kills > 15
    assert not list(base.glob(".export-*"))


def test_writers_at_the_same_time_get_numbers_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, [tmp_path] * 64))
    assert sorted(int(path.name) for path in written) == list(range(1, 65))
    assert list(numbered(tmp_path)) == list(range(1, 65))
    assert all((path / "saved_model.pb").is_file() for path in written)


def test_a_living_writer_keeps_its_hidden_folder(tmp_path):
    with workplace(tmp_path) as slow:
        slow.mkdir()
        assert write(tmp_path) == tmp_path / "1"
        assert slow.is_dir()
        assert publish(slow, tmp_path) == tmp_path / "2"


def test_a_failing_writer_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), workplace(tmp_path) as written:
        written.mkdir()
        raise RuntimeError
    assert not list(tmp_path.glob(".export-*"))


def test_newest_is_the_highest_number_or_the_folder_itself(tmp_path):
    for name in ("9", "10", "notes", "checkpoint"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path) == tmp_path / "10"
    (tmp_path / "9" / "saved_model.pb").touch()
    assert newest(tmp_path / "9") == tmp_path / "9"


def test_a_folder_without_versions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither"):
        newest(tmp_path)
    with pytest.raises(FileNotFoundError, match="not there"):
        newest(tmp_path / "nowhere")
