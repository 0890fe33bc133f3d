import os
import signal
import threading

import pytest

from training.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_stops_at_once(number):
    before = signal.getsignal(number)
    with stop_signals() as requested:
        assert not requested()
        os.kill(os.getpid(), number)
        assert requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_another_thread_than_the_main_one_leaves_the_signals_alone():
    def run():
        with stop_signals() as requested:
            handlers.append((signal.getsignal(signal.SIGINT), requested()))

    handlers: list = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [(signal.getsignal(signal.SIGINT), False)]
