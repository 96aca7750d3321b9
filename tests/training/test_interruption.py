import os
import signal

import pytest

from ccnet.training.interruption import Interruption


def test_a_signal_before_the_first_step_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_a_step_only_asks(capsys):
    with Interruption() as interruption:
        interruption.done = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # schedulers may send it twice
        assert interruption.asked
        assert "finishing the step in hand and saving" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_compiler_that_the_signal_ended_is_an_interruption():
    def step() -> None:
        with Interruption() as interruption:
            interruption.done = True
            os.kill(os.getpid(), signal.SIGINT)
            raise RuntimeError("compiler ended")

    with pytest.raises(KeyboardInterrupt):
        step()


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
