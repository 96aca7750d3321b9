"""Worker processes: forked, driven by messages over a channel, and terminated with their parent."""

import ctypes
import gc
import mmap
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

PR_SET_PDEATHSIG = 1
PATIENCE = 5  # seconds that a worker has to exit before it is killed


class Channel:
    """One end of a pipe that sends any picklable object.

    Arrays are copied once, into an anonymous shared-memory file that the receiver maps.
    """

    def __init__(self, connection: Connection):
        self.connection = connection

    def send(self, item: Any) -> None:
        """Send an item. Raises OSError if the other end is closed."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
        sizes = [buffer.raw().nbytes for buffer in buffers]
        self.connection.send((head, sizes))
        if any(sizes):  # anonymous memory, not /dev/shm: containers often limit that to 64 MB
            with open(os.memfd_create("ccnet"), "wb") as memory:
                for buffer in buffers:
                    memory.write(buffer.raw())
                memory.flush()
                send_handle(self.connection, memory.fileno(), None)

    def receive(self) -> Any:
        """Return the next item; an item that is an exception is raised. Raises EOFError if the other end is closed."""
        item = self._next()
        if isinstance(item, Exception):
            raise item
        return item

    def _next(self) -> Any:
        try:
            head, sizes = self.connection.recv()
            memory = _mapped(recv_handle(self.connection), sum(sizes)) if any(sizes) else memoryview(b"")
        except OSError:
            raise EOFError from None
        ends = zip(accumulate(sizes), sizes, strict=True)
        return pickle.loads(head, buffers=[memory[end - size : end] for end, size in ends])

    def fileno(self) -> int:
        """The file descriptor, so that `select` can wait for an item."""
        return self.connection.fileno()


def _mapped(file: int, size: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(file, size))
    finally:
        os.close(file)


class Worker(Channel):
    """A process that runs `work(channel)`, used as a context manager; this object is the parent's end of the channel.

    An exception in the worker is raised by `receive`. A worker ignores SIGINT, which reaches the whole process group,
    and SIGTERM, which a cluster sends to all processes of a job: its parent decides when it ends. On exit of the
    `with`, its channel is closed, it has `PATIENCE` seconds to finish its current work, and then it is killed. It is
    also killed when its parent dies.
    """

    def __init__(self, work: Callable[[Channel], None]):
        connection, there = Pipe()
        super().__init__(connection)
        arguments = (work, Channel(there), os.getpid())
        self.process = get_context("fork").Process(target=_run, args=arguments, daemon=True)
        self.process.start()
        there.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        with suppress(OSError):
            socket.socket(fileno=os.dup(self.connection.fileno())).shutdown(socket.SHUT_RDWR)
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def send(self, item: Any) -> None:
        """Send an item. If the worker has died, this is reported by the next `receive`."""
        with suppress(OSError):
            super().send(item)

    def _next(self) -> Any:
        try:
            return super()._next()
        except EOFError:  # for example, killed when memory ran out
            if not self.connection.closed:
                print(f"ccnet: worker process {self.process.pid} died; going on without it", file=sys.stderr)
                self.connection.close()
            raise


def _run(work: Callable[[Channel], None], channel: Channel, parent: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    gc.freeze()  # never free objects inherited from the parent: they may be on a GPU
    with suppress(OSError, EOFError):  # the channel is closed
        try:
            work(channel)
        except Exception as error:
            channel.send(error)
