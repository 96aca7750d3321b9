import errno
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from ccnet import InputError
from ccnet.data import archives
from ccnet.data.archives import unpack

FILES = {"set/images/a.jpg": b"aaa" * 100, "set/labels/图 b.png": b"b", "set/empty.txt": b""}


def make_zip(path, files, mode=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode or 0) << 16
            archive.writestr(info, data)
    return path


def make_tar(path, files, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS = {"a.zip": make_zip, "a.tar": make_tar, "a.tar.gz": make_tar}


@pytest.fixture(params=MAKERS)
def maker(request, tmp_path):
    return lambda files: MAKERS[request.param](tmp_path / request.param, files)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != archives.MARKER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_kind_is_unpacked_whole(maker, tmp_path):
    assert contents(unpack({maker(FILES): ""}, tmp_path / "out")) == FILES


def test_a_tar_of_a_folder_from_within_is_unpacked(tmp_path):
    """`tar -C folder .` names the folder itself first, then everything as ./name."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        (tmp_path / "folder/set").mkdir(parents=True)
        (tmp_path / "folder/set/a.txt").write_bytes(b"a")
        tar.add(tmp_path / "folder", arcname=".")
        assert tar.getnames()[0] == "."
    assert contents(unpack({archive: ""}, tmp_path / "out")) == {"set/a.txt": b"a"}


def test_a_full_disk_is_no_damage(maker, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"out: no room to unpack .*a\.(zip|tar|tar\.gz) \(No space left") as caught:
        unpack({maker(FILES): ""}, tmp_path / "out")
    assert "damaged" not in str(caught.value)


def test_what_is_unpacked_is_not_unpacked_again(maker, tmp_path):
    archive, out = maker(FILES), tmp_path / "out"
    unpack({archive: ""}, out)
    (out / "set/images/a.jpg").write_bytes(b"touched")
    unpack({archive: ""}, out)
    assert (out / "set/images/a.jpg").read_bytes() == b"touched"


def test_several_archives_lie_in_one_folder(tmp_path):
    first, second = (
        make_zip(tmp_path / "a.zip", {"train/1.jpg": b"1"}),
        make_tar(tmp_path / "b.tar", {"val/2.jpg": b"2"}),
    )
    third = make_zip(tmp_path / "c.zip", {"train/1.png": b"3"})
    folders = {first: "images", second: "images", third: "labels"}
    expected = {"images/train/1.jpg": b"1", "images/val/2.jpg": b"2", "labels/train/1.png": b"3"}
    assert contents(unpack(folders, tmp_path / "out")) == expected
    make_tar(second, {"val/4.jpg": b"44"})
    assert contents(unpack(folders, tmp_path / "out")) == {
        "images/train/1.jpg": b"1", "images/val/4.jpg": b"44", "labels/train/1.png": b"3",
    }  # fmt: skip


def test_the_damaged_one_of_several_archives_is_named(tmp_path):
    first, second = make_zip(tmp_path / "a.zip", {"1.jpg": b"1"}), make_zip(tmp_path / "b.zip", {"2.jpg": b"2"})
    second.write_bytes(second.read_bytes()[:20])
    with pytest.raises(archives.DamagedError, match=r"b\.zip: neither a whole zip") as caught:
        unpack({first: "", second: ""}, tmp_path / "out")
    assert caught.value.archive == second


def test_a_replaced_archive_is_unpacked_anew(maker, tmp_path):
    unpack({maker(FILES): ""}, tmp_path / "out")
    archive = maker({"set/other.jpg": b"x"})
    os.utime(archive, ns=(1, 1))
    assert contents(unpack({archive: ""}, tmp_path / "out")) == {"set/other.jpg": b"x"}


def test_an_interrupted_unpacking_is_redone(maker, tmp_path, monkeypatch):
    archive = maker(FILES)
    place, placed = archives._place, []

    def interrupted(member, *rest):
        if placed:
            raise KeyboardInterrupt
        placed.append(place(member, *rest))

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_place", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpack({archive: ""}, tmp_path / "out")
    assert contents(unpack({archive: ""}, tmp_path / "out")) == FILES


def test_a_folder_of_somebody_elses_is_left_alone(maker, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out: not unpacked by ccnet: move it away"):
        unpack({maker(FILES): ""}, tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.txt": b"mine"}
    (tmp_path / "out/thesis.txt").unlink()
    assert contents(unpack({maker(FILES): ""}, tmp_path / "out")) == FILES


def test_a_folder_that_cannot_be_written_is_no_damage(maker, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(archives.shutil, "copyfileobj", refused)
    with pytest.raises(InputError, match=r"out: cannot unpack .*a\.(zip|tar|tar\.gz) \(Permission denied") as caught:
        unpack({maker(FILES): ""}, tmp_path / "out")
    assert not isinstance(caught.value, archives.DamagedError)


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
def test_members_that_leave_the_folder_are_refused(maker, tmp_path, name):
    archive = maker({"fine": b"1", name: b"2"})
    with pytest.raises(InputError, match=r"a\.(zip|tar|tar\.gz): its member .*evil.* would leave the folder"):
        unpack({archive: ""}, tmp_path / "deep" / "out")
    assert not [path for path in tmp_path.rglob("*evil*")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "a.tar", {"trap": b""}, kind)
    with pytest.raises(InputError, match=r"a\.tar: its member 'trap' is a link or a device"):
        unpack({archive: ""}, tmp_path / "out")


def test_links_in_zips_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"trap": b"/etc/passwd"}, mode=0o120777)
    with pytest.raises(InputError, match=r"a\.zip: its member 'trap' is a link or a device"):
        unpack({archive: ""}, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_bombs_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "SMALL", 1000)
    archive = MAKERS[name](tmp_path / name, {"zeros": bytes(10_000_000)})
    with pytest.raises(InputError, match="absurdly much"):
        unpack({archive: ""}, tmp_path / "out")
    assert not (tmp_path / "out/zeros").exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7])
def test_damaged_archives_are_named(maker, tmp_path, keep):
    archive = maker({**FILES, "noise": np.random.default_rng(0).bytes(50_000)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"a\.(zip|tar|tar\.gz): "):
        unpack({archive: ""}, tmp_path / "out")
    assert (tmp_path / "out" / archives.MARKER).read_text() == ""


def test_a_flipped_bit_in_a_zip_is_found(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"noise": np.random.default_rng(0).bytes(50_000)})
    data = bytearray(archive.read_bytes())
    data[25_000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip: damaged"):
        unpack({archive: ""}, tmp_path / "out")


def test_a_damaged_xz_is_named(tmp_path):
    archive = tmp_path / "a.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        info = tarfile.TarInfo("noise")
        info.size = 500_000
        tar.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    data = bytearray(archive.read_bytes())
    data[250_000:250_100] = bytes(100)
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tar\.xz: damaged"):
        unpack({archive: ""}, tmp_path / "out")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!" * 30)
    with pytest.raises(InputError, match=r"a\.rar: neither a whole zip nor a tar file"):
        unpack({tmp_path / "a.rar": ""}, tmp_path / "out")
