"""Processes that work for this one: forked, asked by messages, and gone with it."""

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
PATIENCE = 5  # seconds that a worker has to leave


class Channel:
    """One end of a pipe through which anything can be sent that can be pickled.

    Arrays are copied once, into memory that the other side then has too.
    """

    def __init__(self, connection: Connection):
        self.connection = connection

    def send(self, item: Any) -> None:
        """Send an item. Raises OSError where the other side is gone."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
        sizes = [buffer.raw().nbytes for buffer in buffers]
        self.connection.send((head, sizes))
        if any(sizes):  # a file without a name, not in /dev/shm: containers often have but 64 MB there
            with open(os.memfd_create("ccnet"), "wb") as memory:
                for buffer in buffers:
                    memory.write(buffer.raw())
                memory.flush()
                send_handle(self.connection, memory.fileno(), None)

    def receive(self) -> Any:
        """The next item that was sent; an exception is raised. Raises EOFError where the other side is gone."""
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
        """For `select`, which waits until something was sent."""
        return self.connection.fileno()


def _mapped(file: int, size: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(file, size))
    finally:
        os.close(file)


class Worker(Channel):
    """A process that runs `work(channel)`, to be used in a `with`; this is the other end of its channel.

    What it raises is raised by `receive`. Ctrl-C reaches the whole process group, and a cluster's SIGTERM all processes
    of a job: a worker ignores both, and leaves its end to this process. At the end of the `with` it finishes what it
    is doing and finds its channel closed; and it does not outlive this process.
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
        """Send an item; that the worker has died is left for `receive` to find."""
        with suppress(OSError):
            super().send(item)

    def _next(self) -> Any:
        try:
            return super()._next()
        except EOFError:  # killed for its memory, say
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
    gc.freeze()  # what this process inherited is not its own to free: it may lie on a GPU
    with suppress(OSError, EOFError):  # of the channel, closed
        try:
            work(channel)
        except Exception as error:
            channel.send(error)
