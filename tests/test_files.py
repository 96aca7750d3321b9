import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.files import atomic, sha256, write_json, write_text
from tests import tiny


def test_json_that_others_could_not_read_is_refused(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Straße", "values": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Straße", "values": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_appears_whole_and_folders_with_it(tmp_path):
    target = tmp_path / "a/b/c.txt"
    with atomic(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert (temporary.parent, temporary.suffix) == (target.parent, ".txt")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def write_half(target, error):
    with atomic(target) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "c.txt"
    target.write_text("old")
    with pytest.raises(error):
        write_half(target, error)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_flushed_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"), atomic(tmp_path / "c.txt") as temporary:
        temporary.write_text("lost")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*c\.txt'"):
        write_half(tmp_path / "c.txt", OSError(28, "No space left on device"))


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "c.txt"):
        pass


KILLED = """
import os, signal, sys
from ccnet.files import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def start_writing(target, fate):
    command = [sys.executable, "-c", KILLED, str(target), fate]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("waited", [True, False], ids=["gone", "zombie"])
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path, waited):
    killed, left = start_writing(tmp_path / "shard-0-of-4.h5", "killed")
    while tiny.alive(killed.pid):
        time.sleep(0.01)
    if waited:
        killed.communicate()
    living, kept = start_writing(tmp_path / "c.txt", "living")
    assert not left.exists()
    for name in (".c.txt", ".c.0123abcd.txt", f".c.0123abcd-{killed.pid}-0123abcd.txt", "c.12-34-56.txt"):
        (tmp_path / name).touch()  # the user's, or another host's
    with living, atomic(tmp_path / "d.txt") as temporary:
        temporary.touch()
        assert kept.exists()
        living.stdin.close()
    killed.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".c.txt", ".c.0123abcd.txt", f".c.0123abcd-{killed.pid}-0123abcd.txt", "c.12-34-56.txt", "c.txt", "d.txt"]
    )


def test_what_nobody_writes_to_for_a_week_is_swept_whatever_its_host(tmp_path):
    old = tmp_path / ".c.0123abcd-1-0123abcd.txt"
    old.touch()
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    with atomic(tmp_path / "d.txt") as temporary:
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["d.txt"]


def test_two_writers_do_not_meet(tmp_path):
    with atomic(tmp_path / "c.txt") as one, atomic(tmp_path / "c.txt") as two:
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "c.txt").read_text() == "one"  # the last to finish


def test_the_longest_names_are_possible(tmp_path):
    target = tmp_path / ("x" * 251 + ".txt")
    with atomic(target) as temporary:
        temporary.touch()
    assert target.exists()


@given(st.binary(max_size=3000))
def test_sha256(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hashed") / "file"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_text_has_bytes_that_are_not_utf8_escaped(tmp_path):
    write_text(tmp_path / "new/t.txt", "caf\udce9 ü")
    assert (tmp_path / "new/t.txt").read_text(encoding="utf-8") == "caf\\udce9 ü"
