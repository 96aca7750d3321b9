import hashlib
import shutil
from collections import namedtuple

import numpy as np
import pytest

from ccnet import InputError
from ccnet.data import download as module
from ccnet.data.download import download
from tests.serving import serving

DATA = np.random.default_rng(0).bytes(900_000)
SHA1 = hashlib.sha1(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


@pytest.mark.parametrize("digest", [None, SHA1, SHA256, SHA256[:8]])
def test_a_file_arrives_whole_and_is_not_fetched_again(tmp_path, digest):
    with serving({"/a.bin": DATA}) as site:
        for _ in range(2):
            assert download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=digest).read_bytes() == DATA
        assert len(site.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_connection_cut_twice_is_continued_where_it_broke(tmp_path):
    with serving({"/a.bin": DATA}, cuts=[20 * module.BLOCK, 15 * module.BLOCK]) as site:
        download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA256)
        assert [asked for _, asked, _ in site.requests] == [None, "bytes=327680-", "bytes=573440-"]
        assert sum(sent for *_, sent in site.requests) == len(DATA)
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_later_run_continues_an_earlier_one(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA[:500_000])
    with serving({"/a.bin": DATA}) as site:
        download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA1)
        assert site.requests == [("/a.bin", "bytes=500000-", 400_000)]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_part_that_is_already_whole_needs_no_bytes(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA)
    with serving({"/a.bin": DATA}) as site:
        download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA1)
        assert sum(sent for *_, sent in site.requests) == 0


def test_a_part_that_is_too_long_is_started_again(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA + b"more")
    with serving({"/a.bin": DATA}) as site:
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin").read_bytes() == DATA


def test_a_server_without_ranges_sends_everything_again(tmp_path):
    with serving({"/a.bin": DATA}, cuts=[300_000], ranges=False) as site:
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin").read_bytes() == DATA
        assert [sent for *_, sent in site.requests] == [300_000, 900_000]


def test_a_file_that_changed_meanwhile_is_started_again(tmp_path):
    with serving({"/a.bin": DATA}, cuts=[300_000]) as site, pytest.MonkeyPatch.context() as patch:
        other = DATA[::-1]

        def change(_):
            site.files["/a.bin"], site.version = other, '"2"'

        patch.setattr(module.time, "sleep", change)
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin").read_bytes() == other


def test_a_length_need_not_be_known(tmp_path):
    with serving({"/a.bin": DATA}, length=False) as site:
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA1).read_bytes() == DATA


def test_a_busy_server_is_asked_again_and_the_pauses_double(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    with serving({"/a.bin": DATA}, errors=[503, 429, 500]) as site:
        download([f"{site.url}/a.bin"], tmp_path / "a.bin")
    assert pauses == [1, 2, 4]


def test_a_server_that_stays_down_is_given_up_and_named(tmp_path):
    with serving({"/a.bin": DATA}, errors=[503] * 50) as site:
        with pytest.raises(InputError, match=r"cannot download a\.bin: .*/a\.bin: the server answered 503"):
            download([f"{site.url}/a.bin"], tmp_path / "a.bin")
        assert len(site.requests) == module.ATTEMPTS + 1


def test_progress_forgives_any_number_of_cuts(tmp_path):
    with serving({"/a.bin": DATA}, cuts=[50_000] * 15) as site:
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin").read_bytes() == DATA


def test_mirrors_are_tried_in_turn(tmp_path):
    with serving({"/bad/a.bin": DATA[:-1] + b"?", "/good/a.bin": DATA}) as site:
        urls = [f"{site.url}/{place}/a.bin" for place in ("gone", "bad", "good")]
        assert download(urls, tmp_path / "a.bin", digest=SHA1).read_bytes() == DATA
        assert [path for path, *_ in site.requests] == ["/gone/a.bin", "/bad/a.bin", "/good/a.bin"]


def test_a_wrong_checksum_leaves_no_file_and_the_next_run_starts_afresh(tmp_path):
    with serving({"/a.bin": DATA[:-1] + b"?"}) as site:
        with pytest.raises(InputError, match=f"checksum of what it serves is not {SHA256}"):
            download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA256)
        assert not (tmp_path / "a.bin").exists()
        site.files["/a.bin"] = DATA
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA256).read_bytes() == DATA


def test_the_first_digits_of_a_checksum_must_be_right(tmp_path):
    wrong = f"{int(SHA256[:8], 16) ^ 1:08x}"
    with serving({"/a.bin": DATA}) as site, pytest.raises(InputError, match=f"what it serves is not {wrong}"):
        download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=wrong)
    assert not (tmp_path / "a.bin").exists()


def test_a_damaged_file_in_place_is_replaced(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"half")
    with serving({"/a.bin": DATA}) as site:
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin", digest=SHA1).read_bytes() == DATA


def test_a_small_disk_is_said_before_the_download(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2_000_000, 500_000, 1_500_000))
    with serving({"/a.bin": DATA}) as site:
        with pytest.raises(InputError, match=r"0\.0 GB are needed for a\.bin.*make room"):
            download([f"{site.url}/a.bin"], tmp_path / "a.bin", copies=2)
        assert not (tmp_path / "a.bin.part").exists()
        assert download([f"{site.url}/a.bin"], tmp_path / "a.bin").read_bytes() == DATA


def test_no_server_at_all_is_an_input_error(tmp_path):
    with serving({}) as site:
        url = site.url
    with pytest.raises(InputError, match="cannot download a"):
        download([f"{url}/a.bin"], tmp_path / "a.bin")
