import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.files import atomic, sha256


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


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "c.txt"):
        pass


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
