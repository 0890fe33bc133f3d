import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from grpc import StatusCode

from serving.server import protos
from serving.server.batching import Batcher, Batching
from serving.server.failure import Failure, invalid


class Recorder:
    """Doubles; remembers the sizes of the batches it got, and can be held up."""

    def __init__(self):
        self.sizes = []
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, inputs):
        with self.lock:
            self.sizes.append(len(inputs["x"]))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.entered.release()
        assert self.free.wait(20)
        with self.lock:
            self.at_once -= 1
        if np.any(inputs["x"] < 0):
            raise invalid("negative")
        return [inputs["x"] * 2]


def column(*values) -> dict:
    return {"x": np.array(values, np.float32)}


@contextmanager
def held_up(batcher: Batcher, run: Recorder, pool: ThreadPoolExecutor, threads: int = 1):
    """All threads of a batcher are busy; requests of the block wait in the queue."""
    run.free.clear()
    busy = []
    for _ in range(threads):
        busy.append(pool.submit(batcher.answer, column(0)))
        assert run.entered.acquire(timeout=20)
    yield
    run.free.set()
    for answer in busy:
        answer.result(20)


def until_waiting(batcher: Batcher, examples: int) -> None:
    end = time.monotonic() + 20
    while batcher._examples != examples:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def run():
    return Recorder()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as pool:
        yield pool


def test_one_request_is_run_at_once(run):
    batcher = Batcher(run, ("x",), Batching())
    assert batcher.answer(column(1, 2))[0].tolist() == [2, 4]
    assert run.sizes == [2]


def test_requests_that_wait_are_run_together(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1))
    with held_up(batcher, run, pool):
        answers = [pool.submit(batcher.answer, column(i, i + 1)) for i in range(5)]
        until_waiting(batcher, 10)
    assert [answer.result(20)[0].tolist() for answer in answers] == [
        [2 * i, 2 * i + 2] for i in range(5)
    ]
    assert run.sizes == [1, 10]


def test_batches_are_no_larger_than_allowed(run, pool):
    batcher = Batcher(run, ("x",), Batching(max_batch_size=4, num_threads=1))
    with held_up(batcher, run, pool):
        answers = [pool.submit(batcher.answer, column(1, 2, 3)) for _ in range(3)]
        until_waiting(batcher, 9)
    assert all(answer.result(20)[0].tolist() == [2, 4, 6] for answer in answers)
    assert run.sizes == [1, 3, 3, 3]


def test_a_full_batch_does_not_wait_for_the_timeout(run, pool):
    batcher = Batcher(run, ("x",), Batching(max_batch_size=4, timeout=1000.0))
    answers = [pool.submit(batcher.answer, column(i)) for i in range(4)]
    assert sorted(answer.result(20)[0].item() for answer in answers) == [0, 2, 4, 6]
    assert run.sizes == [4]


def test_a_batch_that_is_not_full_waits_for_the_timeout(run):
    batcher = Batcher(run, ("x",), Batching(timeout=0.05))
    begin = time.monotonic()
    batcher.answer(column(1))
    assert 0.05 <= time.monotonic() - begin < 10


def test_as_many_batches_run_at_once_as_there_are_threads(run, pool):
    batcher = Batcher(run, ("x",), Batching(max_batch_size=1, num_threads=3))
    with held_up(batcher, run, pool, threads=3):
        answers = [pool.submit(batcher.answer, column(i)) for i in range(6)]
        until_waiting(batcher, 6)
    assert [answer.result(20)[0].item() for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert run.most_at_once == 3


def test_batches_are_filled_up_to_an_allowed_size(run, pool):
    seen = []

    def fake(inputs):
        seen.append(inputs["x"].tolist())
        return [inputs["x"]]

    batcher = Batcher(fake, ("x",), Batching(max_batch_size=8, allowed_sizes=(2, 4, 8)))
    assert batcher.answer(column(5, 6, 7))[0].tolist() == [5, 6, 7]
    assert batcher.answer(column(5, 6))[0].tolist() == [5, 6]
    assert seen == [[5, 6, 7, 5], [5, 6]]


def test_requests_larger_than_a_batch_are_cut(run):
    batching = Batching(max_batch_size=10, max_execution_size=4, allowed_sizes=(1, 4))
    batcher = Batcher(run, ("x",), batching)
    assert batcher.answer(column(*range(9)))[0].tolist() == [2 * i for i in range(9)]
    assert run.sizes == [4, 4, 1]


def test_cut_requests_among_others_get_their_own_answers(run, pool):
    batching = Batching(max_batch_size=10, max_execution_size=3, num_threads=2)
    batcher = Batcher(run, ("x",), batching)
    with held_up(batcher, run, pool, threads=2):
        answers = [pool.submit(batcher.answer, column(*range(i, i + 5))) for i in range(4)]
        until_waiting(batcher, 20)
    for i, answer in enumerate(answers):
        assert answer.result(20)[0].tolist() == [2 * j for j in range(i, i + 5)]


def test_requests_beyond_the_largest_are_refused(run):
    batcher = Batcher(run, ("x",), Batching(max_batch_size=2))
    with pytest.raises(Failure) as caught:
        batcher.answer(column(1, 2, 3))
    assert caught.value.code == StatusCode.INVALID_ARGUMENT
    assert caught.value.message == "Task size 3 is larger than maximum input batch size 2"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        ({"x": np.zeros(0)}, "Batching Run() input tensors must have at least one example"),
    ],
)
def test_inputs_without_a_batch_are_refused(run, inputs, message):
    with pytest.raises(Failure) as caught:
        Batcher(run, ("x",), Batching()).answer(inputs)
    assert caught.value.code == StatusCode.INVALID_ARGUMENT
    assert caught.value.message == message


def test_inputs_of_different_batches_are_refused(run):
    batcher = Batcher(run, ("x", "y"), Batching())
    with pytest.raises(Failure, match="must have equal 0th-dimension size"):
        batcher.answer({"x": np.zeros(2), "y": np.zeros(3)})
    with pytest.raises(Failure, match="must have at least one input tensor"):
        Batcher(run, (), Batching()).answer({})


def test_a_full_queue_refuses(run, pool):
    batching = Batching(max_batch_size=2, max_enqueued_batches=2, num_threads=1)
    batcher = Batcher(run, ("x",), batching)
    with held_up(batcher, run, pool):
        answers = [pool.submit(batcher.answer, column(i)) for i in range(4)]
        until_waiting(batcher, 4)
        with pytest.raises(Failure, match="queue to which this task was submitted is full") as full:
            batcher.answer(column(1))
        assert full.value.code == StatusCode.UNAVAILABLE
    assert [answer.result(20)[0].item() for answer in answers] == [0, 2, 4, 6]
    assert batcher.answer(column(1))[0].item() == 2


def test_one_bad_request_does_not_hurt_its_neighbours(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1))
    with held_up(batcher, run, pool):
        answers = [pool.submit(batcher.answer, column(x)) for x in (1, -1, 3)]
        until_waiting(batcher, 3)
    assert answers[0].result(20)[0].item() == 2
    assert answers[2].result(20)[0].item() == 6
    with pytest.raises(Failure, match="negative"):
        answers[1].result(20)
    assert run.sizes == [1, 3, 1, 1, 1]


def test_different_shapes_and_types_are_run_apart(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1))
    shaped = [np.ones((1, 2)), np.ones((1, 3)), np.ones((1, 3), np.float32)]
    with held_up(batcher, run, pool):
        answers = [pool.submit(batcher.answer, {"x": array}) for array in shaped]
        until_waiting(batcher, 3)
    for array, answer in zip(shaped, answers, strict=True):
        assert np.array_equal(answer.result(20)[0], array * 2)
    assert run.sizes == [1, 1, 1, 1]


def test_different_lengths_are_filled_up_with_their_first_value_where_that_is_wanted(pool):
    run = Recorder()
    batcher = Batcher(run, ("x",), Batching(num_threads=1, pad_variable_length=True))
    with held_up(batcher, run, pool):
        first = pool.submit(batcher.answer, {"x": np.array([[1.0, 2.0]], np.float32)})
        until_waiting(batcher, 1)
        second = pool.submit(batcher.answer, {"x": np.array([[3.0]], np.float32)})
        until_waiting(batcher, 2)
        third = pool.submit(batcher.answer, {"x": np.zeros((1, 0), np.float32)})
        until_waiting(batcher, 3)
    # The value that a request has been held up with is of another rank, and apart.
    assert first.result(20)[0].tolist() == [[2.0, 4.0]]
    assert second.result(20)[0].tolist() == [[6.0, 6.0]]
    assert third.result(20)[0].tolist() == [[0.0, 0.0]]
    assert run.sizes == [1, 3]


def test_strings_are_filled_up_with_strings():
    seen = []
    batcher = Batcher(
        lambda inputs: seen.append(inputs["s"]) or [inputs["s"]],
        ("s",),
        Batching(max_batch_size=4, allowed_sizes=(4,), pad_variable_length=True),
    )
    batcher.answer({"s": np.array([b"a", b"b"], object)})
    assert seen[0].tolist() == [b"a", b"b", b"a", b"a"]


def test_a_deadline_in_the_queue_is_kept(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1))
    with held_up(batcher, run, pool):
        late = pool.submit(batcher.answer, column(1), time.monotonic() + 0.02)
        other = pool.submit(batcher.answer, column(2), time.monotonic() + 1000)
        with pytest.raises(Failure, match="Deadline exceeded") as caught:
            late.result(20)
        assert caught.value.code == StatusCode.DEADLINE_EXCEEDED
        until_waiting(batcher, 1)
    assert other.result(20)[0].item() == 4
    assert run.sizes == [1, 1]


def test_a_deadline_before_the_timeout_lets_the_next_request_run(run, pool):
    batcher = Batcher(run, ("x",), Batching(timeout=0.6, num_threads=1))
    late = pool.submit(batcher.answer, column(1), time.monotonic() + 0.3)
    until_waiting(batcher, 1)
    other = pool.submit(batcher.answer, column(2))
    with pytest.raises(Failure, match="Deadline exceeded"):
        late.result(20)
    assert other.result(20)[0].item() == 4
    assert run.sizes == [1]


def test_outputs_without_the_batch_are_an_error():
    scalar = Batcher(lambda inputs: [np.float32(1)], ("x",), Batching())
    with pytest.raises(Failure, match="Batched output tensor has 0 dimensions") as caught:
        scalar.answer(column(1))
    assert caught.value.code == StatusCode.FAILED_PRECONDITION
    short = Batcher(lambda inputs: [np.zeros(1)], ("x",), Batching())
    with pytest.raises(Failure, match="0th dimension does not equal the sum of the 0th dimension"):
        short.answer(column(1, 2))


def test_any_error_reaches_whoever_waits():
    def fake(inputs):
        raise KeyError("x")

    batcher = Batcher(fake, ("x",), Batching())
    for _ in range(3):
        with pytest.raises(KeyError):
            batcher.answer(column(1))


@pytest.mark.parametrize(
    "batching",
    [
        Batching(8, num_threads=2),
        Batching(8, None, 0.001, 1000, num_threads=1, allowed_sizes=(1, 3, 8)),
        Batching(8, 3, 0.0005, 1000, num_threads=2),
        Batching(8, None, 1e-6, 1000, num_threads=4),
    ],
    ids=["short queue", "timeout and sizes", "cut", "four threads"],
)
def test_no_answer_is_lost_or_another_s_among_many_threads(batching):
    def fake(inputs):
        if random.random() < 0.05:
            time.sleep(0.001)
        if np.any(inputs["x"] == 13):
            raise invalid("unlucky")
        return [inputs["x"] * 2, inputs["x"] + 1]

    batcher = Batcher(fake, ("x",), batching)

    def client(number):
        chance = random.Random(number)
        wrong = answered = 0
        for i in range(200):
            size = chance.randint(1, 8)
            values = np.arange(size) + number * 1000 + i if chance.random() < 0.98 else [13] * size
            deadline = time.monotonic() + chance.choice([0.0005, 60, 60, 60])
            inputs = {"x": np.array(values, np.int64)}
            try:
                double, more = batcher.answer(inputs, deadline)
                wrong += double.tolist() != [2 * x for x in values]
                wrong += more.tolist() != [x + 1 for x in values]
                answered += 1
            except Failure as failure:
                full = failure.code == StatusCode.UNAVAILABLE
                unlucky = "unlucky" in failure.message and 13 in list(values)
                wrong += not (unlucky or full or failure.code == StatusCode.DEADLINE_EXCEEDED)
        return wrong, answered

    with ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(client, number) for number in range(32)]
        results = [answer.result(60) for answer in answers]
    assert sum(wrong for wrong, _ in results) == 0
    if batching.max_enqueued_batches == 1000:
        assert sum(answered for _, answered in results) > 0.6 * 32 * 200
    assert not batcher._waiting
    assert batcher._examples == batcher._running == 0


def test_parameters_have_the_defaults_of_the_server():
    batching = Batching.from_proto(protos.BatchingParameters(), num_threads=3)
    assert batching == Batching(
        max_batch_size=1000, timeout=0.0, max_enqueued_batches=10, num_threads=3
    )


def test_parameters_are_read_from_the_message():
    message = protos.BatchingParameters(allowed_batch_sizes=[2, 4], pad_variable_length_inputs=True)
    message.max_batch_size.value = 8
    message.batch_timeout_micros.value = 2500
    message.max_enqueued_batches.value = 7
    message.num_batch_threads.value = 5
    message.enable_large_batch_splitting.value = True
    message.max_execution_batch_size.value = 4
    assert Batching.from_proto(message, num_threads=1) == Batching(
        max_batch_size=8,
        max_execution_size=4,
        timeout=0.0025,
        max_enqueued_batches=7,
        num_threads=5,
        allowed_sizes=(2, 4),
        pad_variable_length=True,
    )


@pytest.mark.parametrize(
    "values",
    [
        {"max_batch_size": 0},
        {"num_threads": 0},
        {"max_enqueued_batches": 0},
        {"max_batch_size": 8, "allowed_sizes": (4, 2, 8)},
        {"max_batch_size": 8, "allowed_sizes": (2, 4)},
        {"max_batch_size": 8, "max_execution_size": 9},
        {"max_batch_size": 8, "max_execution_size": 4, "allowed_sizes": (8,)},
    ],
    ids=str,
)
def test_bad_parameters_are_refused(values):
    with pytest.raises(ValueError, match="Received"):
        Batching(**values)


def test_an_event_loop_s_requests_are_run_together_with_those_of_threads(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1), pool)

    async def ask():
        return await asyncio.gather(*(batcher.answer_later(column(i, i)) for i in range(5)))

    with held_up(batcher, run, pool):
        in_thread = pool.submit(batcher.answer, column(9))
        until_waiting(batcher, 1)
        in_loop = pool.submit(asyncio.run, ask())
        until_waiting(batcher, 11)
    assert [answer[0].tolist() for answer in in_loop.result(20)] == [[2 * i] * 2 for i in range(5)]
    assert in_thread.result(20)[0].tolist() == [18]
    assert run.sizes == [1, 11]


def test_an_event_loop_waits_for_the_timeout_or_for_a_full_batch(run, pool):
    async def ask(count, timeout):
        batching = Batching(num_threads=1, max_batch_size=3, timeout=timeout)
        batcher = Batcher(run, ("x",), batching, pool)
        return await asyncio.gather(*(batcher.answer_later(column(i)) for i in range(count)))

    asyncio.run(ask(2, timeout=0.3))
    assert run.sizes == [2]
    asyncio.run(ask(3, timeout=1000.0))
    assert run.sizes == [2, 3]


def test_a_bad_request_of_an_event_loop_fails_alone(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1, timeout=0.02), pool)

    async def ask():
        requests = [batcher.answer_later(column(value)) for value in (1, -1, 2)]
        return await asyncio.gather(*requests, return_exceptions=True)

    first, bad, last = asyncio.run(ask())
    assert (first[0].tolist(), last[0].tolist()) == ([2], [4])
    assert isinstance(bad, Failure) and bad.message == "negative"


def test_an_event_loop_that_gives_up_leaves_the_queue(run, pool):
    batcher = Batcher(run, ("x",), Batching(num_threads=1), pool)

    async def give_up():
        async with asyncio.timeout(0.01):
            await batcher.answer_later(column(1))

    with held_up(batcher, run, pool), pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert batcher._examples == 0 and run.sizes == [1]


def test_a_thread_that_waits_for_a_full_batch_leaves_when_all_have_given_up(run):
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(run, ("x",), Batching(num_threads=1, timeout=1000.0), pool)

        async def give_up():
            async with asyncio.timeout(0.01):
                await batcher.answer_later(column(1))

        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
    # The pool's end waits for its thread.
    assert batcher._leaders == batcher._examples == 0 and run.sizes == []


@pytest.mark.parametrize("threads", [1, 2])
def test_no_answer_is_lost_among_many_tasks_and_threads(threads):
    def double(inputs):
        return [inputs["x"] * 2]

    batching = Batching(num_threads=threads, max_batch_size=7, timeout=0.0005)
    with ThreadPoolExecutor(16) as pool:
        batcher = Batcher(double, ("x",), batching, pool)

        async def client(number):
            for i in range(100):
                (answer,) = await batcher.answer_later(column(number, i))
                assert answer.tolist() == [2 * number, 2 * i]

        async def clients():
            await asyncio.gather(*map(client, range(16)))

        def thread(number):
            for i in range(100):
                assert batcher.answer(column(number, i))[0].tolist() == [2 * number, 2 * i]

        threaded = [pool.submit(thread, number) for number in range(8)]
        asyncio.run(asyncio.wait_for(clients(), 60))
        for done in threaded:
            done.result(60)
    assert batcher._examples == batcher._running == batcher._leaders == 0
