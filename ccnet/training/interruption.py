"""SIGINT and SIGTERM during a training: the step is finished and saved before the process ends."""

import signal
import sys


class Interruption:
    """While active, SIGINT or SIGTERM only sets `asked`, so that the current step can be finished and saved.

    A second SIGINT raises KeyboardInterrupt immediately; so does any signal before the first step is `done`, when
    there is nothing to save. A second SIGTERM does not: schedulers may send it twice, and SIGKILL at the end.
    A RuntimeError of the interrupted step becomes KeyboardInterrupt: the signal also reaches Jittor's compiler, which
    is in the same process group.
    """

    asked = done = False

    def __enter__(self):
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, _) -> None:
        if not self.done or (self.asked and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.asked = True
        print("\nccnet: interrupted; finishing the step in hand and saving (Ctrl-C: stop at once)", file=sys.stderr)

    def __exit__(self, kind, error, trace) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and isinstance(error, RuntimeError):
            raise KeyboardInterrupt from error
