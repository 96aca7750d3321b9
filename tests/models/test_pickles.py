"""A pickle is read as data: it computes nothing, and asks in vain for anything but tensors and containers."""

import builtins
import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest

from ccnet import InputError
from ccnet.models import published
from ccnet.models.pickles import Machine


def load(pickled: bytes, **calls):
    return Machine("some file", calls).run(io.BytesIO(pickled))


VALUES = {
    "a": [1, -2, 2**40, 2**200, 0.5, True, None],
    "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "c": "ä",
    5: {},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_as_pickle_reads_them(protocol):
    assert load(pickle.dumps(VALUES, protocol)) == VALUES


def test_what_is_shared_stays_shared():
    shared: list = []
    first, second = load(pickle.dumps([shared, shared]))
    assert first is second


def test_a_pickle_leaves_the_stream_behind_its_end():
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(2) + b"rest")
    assert [Machine("f", {}).run(stream) for _ in range(2)] == [1, 2]
    assert stream.read() == b"rest"


class Malicious:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def archived(path: Path, pickled: bytes) -> None:
    """As PyTorch writes since 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")


def streamed(path: Path, pickled: bytes) -> None:
    """As PyTorch wrote before."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, 2) for part in (published.LEGACY_MAGIC, 1001, system))
    path.write_bytes(head + pickled + pickle.dumps([], 2))


def jittor(path: Path, pickled: bytes) -> None:
    path.write_bytes(pickled + hashlib.sha1(pickled).digest() + published.JITTOR_END)


def bare(path: Path, pickled: bytes) -> None:
    path.write_bytes(pickled)


FORMATS = [archived, streamed, jittor, bare]
NESTINGS = {
    "alone": lambda it: it,
    "in a dict": lambda it: {"state_dict": {"weight": it}},
    "in an ordered dict": lambda it: OrderedDict(weight=[1, (it,)]),
}


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("nested", NESTINGS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec], ids=lambda function: function.__name__)
def test_code_in_a_file_is_refused_by_name_and_never_runs(tmp_path, write, nested, protocol, function):
    mark, path = tmp_path / "ran", tmp_path / "weights.pth"
    argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    pickled = pickle.dumps(NESTINGS[nested](Malicious(function, argument)), protocol)
    write(path, pickled)
    with pytest.raises(InputError, match=f"weights.pth: asks for \\w+.{function.__name__}.*not run"):
        published.read(path)
    assert not mark.exists()
    if protocol == 2 and nested == "alone":
        pickle.loads(pickled)  # which shows that it would have
        assert mark.exists()


CALL = b"S'touch {mark}'\n"
ASSEMBLED = {
    "INST": b"(" + CALL + b"iposix\nsystem\n.",
    "OBJ": b"(cposix\nsystem\n" + CALL + b"o.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + CALL + b"\x85R.",
    "a global of ours, dotted on": b"\x80\x04\x8c\x0bcollections\x8c\x13OrderedDict.__init__\x93)R.",
    "an attribute of a module": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93" + CALL + b"\x85R.",
    "an extension": b"\x82\x01.",
    "torch's import by name": b"ctorch._utils\n_import_dotted_name\n(S'os.system'\ntR.",
    "torch's rebuild of any type": b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\n" + CALL + b"tR.",
    "a rebuild without a storage": b"ctorch._utils\n_rebuild_tensor_v2\n(" + CALL + b"K\x00))I00\nNtR.",
    "a rebuild called through": b"ctorch._utils\n_rebuild_parameter\n(ccollections\nOrderedDict\n" + CALL + b"\x86tRR.",
    "a call of a value": CALL + b")R.",
    "a state for a name": b"ctorch._utils\n_rebuild_tensor_v2\n}S'__code__'\n" + CALL + b"sb.",
    "a class made from bytes": b"cbuiltins\nbytearray\n(tR.",
}


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("trick", ASSEMBLED)
def test_pickles_that_no_pickler_writes_are_refused_too(tmp_path, write, trick):
    mark, path = tmp_path / "ran", tmp_path / "weights.pth"
    write(path, ASSEMBLED[trick].replace(b"{mark}", str(mark).encode()))
    with pytest.raises(InputError, match=r"weights\.pth: "):
        published.read(path)
    assert not mark.exists()


GREEDY = {
    "a memo of 2**32 entries": b"Nr\xff\xff\xff\xff.",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".",
    "a long list of digits": b"I" + b"9" * 100_000 + b"\n.",
    "a deep tuple as a key": b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "marks only": b"(" * 100_000,
    "an empty stack": b"\x86.",
    "nothing": b"",
}


@pytest.mark.parametrize("trick", GREEDY)
def test_a_greedy_pickle_is_refused_or_harmless(tmp_path, trick):
    path = tmp_path / "weights.pkl"
    path.write_bytes(GREEDY[trick])
    with pytest.raises(InputError, match=r"weights\.pkl: "):
        published.read(path)
