import json

import h5py
import numpy as np
import pytest

from ccnet import InputError
from ccnet.data import hdf5
from ccnet.data.shards import ShardReader
from tests import tiny


def test_hdf5_never_sees_a_structure_that_is_not_as_written(tmp_path, monkeypatch):
    """Single bytes of one can crash HDF5, as the length of a name does, or keep it busy for ever."""
    path = tmp_path / "a.h5"
    tiny.shard(path, range(3))
    whole, reader = path.read_bytes(), ShardReader([path])
    bulk = {place for first, last in stated(whole)["bulk"] for place in range(first, last)}
    places = [place for place in np.flatnonzero(np.frombuffer(whole, np.uint8)).tolist() if place not in bulk]
    assert len(places) > 500
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("HDF5 was given the file"))
    for place in places[::3]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"a\.h5: damaged, or not a shard \(.*\): delete it and prepare it again"):
            ShardReader([path])
        with pytest.raises(InputError, match="damaged"):
            reader.verify()


def stated(whole: bytes) -> dict:
    """What a shard says of its structure."""
    length, _ = hdf5.END.unpack(whole[-hdf5.END.size :])
    return json.loads(whole[-hdf5.END.size - length : -hdf5.END.size])


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"[" * 100_000, b'{"bulk": [[5, 3]], "sha256": ""}', b'{"bulk": 5, "sha256": ""}',
             b'{"bulk": [[0, 999999999999]], "sha256": ""}', b'{"bulk": [["", 1]], "sha256": ""}']
)  # fmt: skip
def test_a_shard_whose_end_is_not_as_written_is_refused(tmp_path, text):
    path = tmp_path / "a.h5"
    tiny.shard(path, range(3))
    path.write_bytes(path.read_bytes() + text + hdf5.END.pack(len(text), hdf5.MARK))
    with pytest.raises(InputError, match=r"a\.h5: damaged, or not a shard"):
        ShardReader([path])
