"""A pickle is read as data: it computes nothing, and asks in vain for anything but tensors and containers."""

import builtins
import hashlib
import io
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from ccnet import InputError
from ccnet.weights import pickles, published


def load(pickled: bytes, **calls):
    return pickles.load(io.BytesIO(pickled), "some file", calls)


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
    assert [pickles.load(stream, "f", {}) for _ in range(2)] == [1, 2]
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


def streamed(path: Path, pickled: bytes, keys: bytes = pickle.dumps([], 2)) -> None:
    """As PyTorch wrote before."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, 2) for part in (published.LEGACY_MAGIC, 1001, system))
    path.write_bytes(head + pickled + keys)


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
    "INST": (b"(" + CALL + b"iposix\nsystem\n.", "INST in its pickle"),
    "OBJ": (b"(ccollections\nOrderedDict\n" + CALL + b"o.", "OBJ in its pickle"),
    "OBJ of a global that is not ours": (b"(cposix\nsystem\n" + CALL + b"o.", "asks for posix.system,"),
    "NEWOBJ_EX": (b"ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX in its pickle"),
    "PERSID": (b"Pposix.system\n.", "PERSID in its pickle"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + CALL + b"\x85R.", "asks for posix.system,"),
    "a global of ours, dotted on": (
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93)R.", "asks for collections.OrderedDict.__init__,",
    ),
    "an attribute of a module": (
        b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93" + CALL + b"\x85R.", "asks for torch.os.system,",
    ),
    "a global with a line's end": (b"\x80\x04\x8c\x02a\n\x8c\x03\x1b[0\x93.", r"asks for a\\n\.\\x1b\[0,"),
    "an extension": (b"\x82\x01.", "EXT1 in its pickle"),
    "torch's import by name": (
        b"ctorch._utils\n_import_dotted_name\n(S'os.system'\ntR.", "asks for torch._utils._import_dotted_name,",
    ),
    "torch's rebuild of any type": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\n" + CALL + b"tR.",
        "asks for torch._tensor._rebuild_from_type_v2,",
    ),
    "a rebuild without a storage": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + CALL + b"K\x00))I00\nNtR.", r"\(unexpected str\)",
    ),
    "a rebuild called through": (
        b"ctorch._utils\n_rebuild_parameter\n(ccollections\nOrderedDict\ntR(" + CALL + b"tR.",
        r"\(unexpected function\)",
    ),
    "a call of a value": (CALL + b")R.", r"\(a call of a str\)"),
    "a NEWOBJ of a value": (CALL + b")\x81.", r"\(a call of a str\)"),
    "a call with a list": (b"ctorch\nSize\n]R.", "a call with absurd arguments"),
    "a state for a name": (
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'__code__'\n" + CALL + b"sb.", r"\(a state for a function\)",
    ),
    "a state for a class": (b"cargparse\nNamespace\n}S'__setstate__'\n" + CALL + b"sb.", r"\(a state for a type\)"),
    "an item of a class": (b"cargparse\nNamespace\nS'__setstate__'\n" + CALL + b"s.", "does not support item assignm"),
    "a class made from bytes": (b"cbuiltins\nbytearray\n(tR.", "asks for builtins.bytearray,"),
}  # fmt: skip


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("trick", ASSEMBLED)
def test_pickles_that_no_pickler_writes_are_refused_too(tmp_path, write, trick):
    mark, path = tmp_path / "ran", tmp_path / "weights.pth"
    pickled, reason = ASSEMBLED[trick]
    write(path, pickled.replace(b"{mark}", str(mark).encode()))
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*{reason}.*$"):
        published.read(path)
    assert not mark.exists()


MANY = 100_000
DEEP = b")" + b"\x85" * (2 * MANY)  # a tuple in a tuple in a tuple …
LAUGHS = b"]q\x00" + b"](h\x00h\x00eq\x00" * 60  # in memo 0: a list of twice a list of twice …, 2**60 in all
ENDS, KEY, NOTHING = "it ends too early", "a key that is neither a string nor a small integer", "no state dict in it"
GREEDY = {
    "a memo of 2**32 entries": (b"Nr\xff\xff\xff\xff.", NOTHING),
    "a memo whose keys collide": (b"".join(b"Np%d\n" % (k * (2**61 - 1)) for k in range(1, MANY)) + b".", KEY),
    "keys that collide": (b"}(" + b"".join(b"I%d\nN" % (k * (2**61 - 1)) for k in range(1, MANY)) + b"u.", KEY),
    "bytes that are not there": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".", ENDS),
    "a text that is not there": (b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b".", ENDS),
    "a frame longer than the file": (b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.", NOTHING),
    "a bytearray that is not there": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "BYTEARRAY8 in its pickle"),
    "more bytes than there can be": (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "maximum size"),
    "a number that is not there": (b"\x8b\xff\xff\xff\x7f1.", ENDS),
    "a long list of digits": (b"I" + b"9" * MANY + b"\n.", "4300 digits"),
    "marks only": (b"(" * MANY, ENDS),
    "an empty stack": (b"\x86.", "list index out of range"),
    "nothing": (b"", "cannot be read"),
    "deep lists": (b"]" * MANY + b"a" * (MANY - 1) + b".", NOTHING),
    "deep dicts": (b"}S'a'\n" * MANY + b"N" + b"s" * MANY + b".", NOTHING),
    "a deep tuple": (DEEP + b".", NOTHING),
    "a deep tuple as a key": (b"}" + DEEP + b"Ns.", KEY),
    "a deep tuple as one of several keys": (b"}(" + DEEP + b"Nu.", KEY),
    "a deep tuple as a key of a dict at once": (b"(" + DEEP + b"Nd.", KEY),
    "a deep tuple as a key of an OrderedDict": (b"ccollections\nOrderedDict\n(](" + DEEP + b"N\x86etR.", KEY),
    "an OrderedDict of a deep tuple": (b"ccollections\nOrderedDict\n" + DEEP + b"\x85R.", "unexpected tuple"),
    "a deep tuple in a set": (b"\x8f(" + DEEP + b"\x90.", "EMPTY_SET in its pickle"),
    "a deep frozenset": (b"(" * MANY + b"\x91" * MANY + b".", "FROZENSET in its pickle"),
    "a deep tuple to point with": (DEEP + b"Q.", "it points outside of itself"),
    "an array of laughs": (LAUGHS + b"cnumpy\ndtype\nh\x00\x85R.", "an array of anything but numbers"),
    "a tensor of laughs": (LAUGHS + b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x00h\x00tR.", "absurd size"),
    "laughs": (LAUGHS + b".", NOTHING),
    "a size of many sizes": (
        b"](" + b"K\x01" * MANY + b"eq\x00ctorch\nSize\nq\x01" + b"h\x01h\x00\x85R" * MANY + b".",
        "a tensor of 100000 dimensions",
    ),
    "a tensor of many dimensions": (
        b"(" + b"J\xff\xff\xff\x7f" * MANY + b"tq\x00ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x00h\x00tR.",
        "a tensor of 100000 dimensions",
    ),
    "an array of many dimensions": (
        b"cnumpy._core.multiarray\n_reconstruct\n)R(K\x01(" + b"J\xff\xff\xff\x7f" * MANY
        + b"tcnumpy\ndtype\nS'f4'\n\x85RI00\nS''\ntb.",
        "a tensor of 100000 dimensions",
    ),
    "a text encoded many times": (
        b"S'" + b"a" * MANY + b"'\nq\x00c_codecs\nencode\nq\x01" + b"h\x01h\x00N\x86R" * MANY + b".", NOTHING,
    ),
    "a list made into many dicts": (
        b"](" + b"".join(b"S'%d'\nN\x86" % k for k in range(MANY)) + b"eq\x00ccollections\nOrderedDict\nq\x01"
        + b"h\x01h\x00\x85R" * MANY + b".",
        NOTHING,
    ),
    "a tuple called with many times": (
        b"(" + b"N" * MANY + b"tq\x00cargparse\nNamespace\nq\x01" + b"h\x01h\x00R" * MANY + b".", "absurd arguments",
    ),
}  # fmt: skip
GREEDY_STORAGES = {
    "a deep tuple for a storage": (DEEP + b"Q.", "an unknown kind of storage"),
    "a long tuple for many storages": (
        b"(" + b"N" * MANY + b"tq\x00" + b"h\x00Q" * MANY + b".", "an unknown kind of storage",
    ),
    "laughs for a storage": (
        LAUGHS + b"(S'storage'\nctorch\nFloatStorage\nh\x00S'cpu'\nK\x01tQ.", r"\(unexpected list\)",
    ),
    "laughs for its length": (
        LAUGHS + b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nh\x00tQ.", "absurd size",
    ),
    "a type that is none": (
        b"(S'storage'\nccollections\nOrderedDict\nS'0'\nS'cpu'\nK\x01tQ.", r"\(unexpected function\)",
    ),
}  # fmt: skip

# without Jittor, which raises the stack's limit, and with little memory
READ = """
import resource, sys
import ccnet
from ccnet.weights import published
assert "jittor" not in sys.modules
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
for path in sys.argv[1:]:
    try:
        published.read(path)
        print("read", flush=True)
    except ccnet.InputError as error:
        print(error, flush=True)
"""


def read_apart(paths: list[Path]) -> list[str]:
    """What reading these files says in a process with the stack and the recursion limit that are usual."""

    def usual():
        resource.setrlimit(resource.RLIMIT_STACK, (2**23, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    command = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=usual, timeout=300)
    assert not done.stderr
    return done.stdout.splitlines()


def test_greedy_pickles_are_refused_or_harmless(tmp_path):
    wanted, paths = [], []
    for number, (write, (pickled, reason)) in enumerate(
        [(bare, trick) for trick in GREEDY.values()]
        + [(write, trick) for trick in GREEDY_STORAGES.values() for write in (archived, streamed)]
    ):
        paths.append(tmp_path / f"{number}.pth")
        write(paths[-1], pickled)
        wanted.append(rf"{re.escape(str(paths[-1]))}: .*{reason}.*")
    said = read_apart(paths)
    names = [*GREEDY, *(f"{name} {kind}" for name in GREEDY_STORAGES for kind in ("zip", "stream"))]
    assert len(said) == len(paths), f"the interpreter crashed at {names[len(said)]}"
    for name, line, pattern in zip(names, said, wanted, strict=True):
        assert re.fullmatch(pattern, line), name


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (b"](" + DEEP + b"e.", "unexpected tuple"), (DEEP + b".", "unexpected tuple"),
        (b"](S'0'\ne.", "'0'"), (b"].", "no state dict in it"), (b"N.", "unexpected NoneType"),
    ],
    ids=["deep in a list", "deep", "an unknown one", "none", "no list"],
)  # fmt: skip
def test_greedy_lists_of_storages_are_refused_or_harmless(tmp_path, keys, reason):
    streamed(tmp_path / "w.pth", pickle.dumps({}, 2), keys)
    (said,) = read_apart([tmp_path / "w.pth"])
    assert re.fullmatch(rf".*w\.pth: .*{reason}.*", said)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\ud800", "a" * 1001])
def test_names_that_cannot_be_printed_are_refused(tmp_path, name):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({name: np.zeros(1)}))
    with pytest.raises(InputError, match=r"w\.pkl: damaged: a tensor's name has over 1000 characters, or cannot be"):
        published.read(tmp_path / "w.pkl")
