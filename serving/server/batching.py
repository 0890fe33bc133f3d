"""Dynamic batching: requests that arrive at the same time are answered together.

TensorFlow's own operation for it, BatchFunction, needs a function, which graphs of TensorFlow 1 do
not have, and fails all requests of a batch when one is bad. Here a batch that fails is answered one
by one, so that only the bad request gets the error.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import StatusCode

from serving.server.failure import Failure, invalid
from serving.server.servable import Arrays

LONGEST_WAIT = 3600.0
"""Seconds; a client without a deadline has one in some centuries, which threads cannot wait for."""


@dataclass(frozen=True)
class Batching:
    """TensorFlow Serving's BatchingParameters, with its defaults."""

    max_batch_size: int = 1000
    """Maximum number of examples of a request, and of those run together."""
    max_execution_size: int | None = None
    """Maximum number of examples run together, if that is less: larger requests are split."""
    timeout: float = 0.0
    """Seconds that the first request of a batch waits for others while a thread is free."""
    max_enqueued_batches: int = 10
    """Maximum number of full batches that wait; further requests are refused."""
    num_threads: int = 2
    """Number of batches run at the same time."""
    allowed_sizes: tuple[int, ...] = ()
    """Sizes that batches are padded to; any size if empty."""
    pad_variable_length: bool = False
    """Whether tensors of different length may share a batch, padded with their first value."""

    def __post_init__(self):
        sizes = self.allowed_sizes
        if not 1 <= self.limit <= self.max_batch_size:
            raise ValueError(
                "max_execution_batch_size must be at least 1 and at most max_batch_size. "
                f"Received: {self}"
            )
        if min(self.max_batch_size, self.max_enqueued_batches, self.num_threads) < 1:
            raise ValueError(
                "max_batch_size, max_enqueued_batches and num_batch_threads must be at least 1. "
                f"Received: {self}"
            )
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.limit):
            raise ValueError(
                "allowed_batch_sizes must ascend and end with max_batch_size, or with "
                "max_execution_batch_size where that is less. Received: "
                f"allowed_batch_sizes={sizes}, {self.limit}"
            )

    @classmethod
    def from_proto(cls, proto: Any, num_threads: int) -> "Batching":
        """Reads a BatchingParameters message; `num_threads` is for one that names none."""
        values = {
            "max_batch_size": "max_batch_size",
            "max_enqueued_batches": "max_enqueued_batches",
            "num_batch_threads": "num_threads",
        }
        if proto.enable_large_batch_splitting.value:
            values["max_execution_batch_size"] = "max_execution_size"
        given = {
            ours: getattr(proto, theirs).value
            for theirs, ours in values.items()
            if proto.HasField(theirs)
        }
        return cls(
            **{"num_threads": num_threads, **given},
            timeout=proto.batch_timeout_micros.value / 1e6,
            allowed_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length=proto.pad_variable_length_inputs,
        )

    @property
    def limit(self) -> int:
        """Maximum number of examples run together."""
        return self.max_batch_size if self.max_execution_size is None else self.max_execution_size

    def padded(self, size: int) -> int:
        """The smallest allowed size that holds `size` examples."""
        return next((allowed for allowed in self.allowed_sizes if allowed >= size), size)


@dataclass(eq=False)
class _Task:
    inputs: list[np.ndarray]
    size: int
    woken: Any
    """An event, or `_Later`, one for a whole request; set when its thread is to look again."""
    arrived: float = field(default_factory=time.monotonic)
    taken: bool = False
    """Whether it has left the queue to be run."""
    answer: list[np.ndarray] | BaseException | None = None


@dataclass(eq=False)
class _Later:
    """The event of a task of an event loop, instead of a thread's event."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future
    start_leader: Callable[[], None]
    task: _Task | None = None

    def set(self) -> None:
        """Passes on the answer; without one, the task is first in the queue and is run."""
        if self.task is None or self.task.answer is None:
            self.start_leader()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self._resolve, self.task.answer)

    def _resolve(self, answer: list[np.ndarray] | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Batcher:
    """The queue of one signature of one version.

    There is no thread of its own: of the threads that ask, one runs the batch for all the others in
    it; for tasks of an event loop, which must not wait, a thread of `executor` does.

    Args:
        run: From arrays by input name to the list of output arrays.
        names: Names of the inputs.
        batching: When a batch is full, and what may wait.
        executor: Threads for `answer_later`; None if it is never called.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Sequence[np.ndarray]],
        names: tuple[str, ...],
        batching: Batching,
        executor: Executor | None = None,
    ):
        self._run, self._names, self._batching = run, names, batching
        self._executor = executor
        self._lock = threading.Lock()
        self._leaders = 0
        self._filled = threading.Event()
        self._waiting: deque[_Task] = deque()
        self._examples = 0
        self._running = 0

    def answer(self, inputs: Arrays, deadline: float | None = None) -> list[np.ndarray]:
        """Returns the outputs for the examples of one request.

        Args:
            inputs: Arrays by input name, with equally many examples along the first axis.
            deadline: When the client gives up, by `time.monotonic`; None for never.
        """
        arrays = [inputs[name] for name in self._names]
        size, most, limit = _size(arrays), self._batching.max_batch_size, self._batching.limit
        if size > most:
            raise invalid(f"Task size {size} is larger than maximum input batch size {most}")
        woken = threading.Event()
        tasks = [
            _Task([array[at : at + limit] for array in arrays], min(limit, size - at), woken)
            for at in range(0, size, limit)
        ]
        self._enqueue(tasks, size)
        parts = []
        for number, task in enumerate(tasks):
            try:
                parts.append(self._wait(task, deadline))
            except BaseException:
                self._abandon(tasks[number:])
                raise
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    async def answer_later(self, inputs: Arrays) -> list[np.ndarray]:
        """Returns the outputs for the examples of one request, to an event loop.

        One that gives up takes its examples out of the queue.
        """
        arrays = [inputs[name] for name in self._names]
        size = _size(arrays)
        loop = asyncio.get_running_loop()
        if size > self._batching.limit:
            return await loop.run_in_executor(self._executor, self.answer, inputs)
        later = _Later(loop, loop.create_future(), self._start_leader)
        task = later.task = _Task(arrays, size, later)
        self._enqueue([task], size)
        try:
            return await later.future
        finally:
            if not task.taken:
                self._abandon([task])

    def _start_leader(self) -> None:
        """Has a thread run batches for an event loop; to be called under the lock."""
        if self._executor and self._leaders + self._running < self._batching.num_threads:
            self._leaders += 1
            self._executor.submit(self._lead)

    def _lead(self) -> None:
        """Runs one batch, when it is full or its time has come."""
        while True:
            with self._lock:
                patience = self._patience(None)
                if patience is None or patience <= 0:
                    self._leaders -= 1
                    batch = [] if patience is None else self._take()
                    break
            self._filled.wait(patience)
            self._filled.clear()
        if batch:
            self._execute(batch)

    def _enqueue(self, tasks: list[_Task], size: int) -> None:
        most = self._batching.max_enqueued_batches * self._batching.limit
        with self._lock:
            if self._examples + size > most:
                raise Failure(
                    StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._waiting.extend(tasks)
            self._examples += size
            if self._examples >= self._batching.limit:
                self._filled.set()
            if isinstance(tasks[0].woken, _Later):
                self._start_leader()

    def _wait(self, task: _Task, deadline: float | None) -> list[np.ndarray]:
        """Runs batches, or waits while others do, until a task has its answer."""
        while task.answer is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Failure(StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded in the batch queue")
            batch: list[_Task] = []
            with self._lock:
                patience = self._patience(task)
                if patience is not None and patience <= 0:
                    batch = self._take()
            if batch:
                self._execute(batch)
                continue
            limits = [seconds for seconds in (patience, left) if seconds is not None]
            task.woken.wait(min([*limits, LONGEST_WAIT]))
            task.woken.clear()
        if isinstance(task.answer, BaseException):
            raise task.answer
        return task.answer

    def _patience(self, task: _Task | None) -> float | None:
        """Seconds until whoever asks is to run a batch; None if others will see to it.

        Args:
            task: What the asking thread waits for; None for a thread that waits for all.
        """
        if self._running >= self._batching.num_threads or not self._waiting:
            return None
        first = self._waiting[0]
        is_first = task is None or first.woken is task.woken
        if task and task.taken and not is_first:
            # Its answer comes soon, and the first knows that it is the first.
            return None
        if self._examples >= self._batching.limit:
            return 0.0
        patience = first.arrived + self._batching.timeout - time.monotonic()
        return patience if patience <= 0 or is_first else None

    def _take(self) -> list[_Task]:
        """Takes the next batch off the queue; to be called, like all above, under the lock."""
        tasks: list[_Task] = []
        size = 0
        while self._waiting:
            task = self._waiting[0]
            full = size + task.size > self._batching.limit
            if full or (tasks and not self._fits(task, tasks[0])):
                break
            task.taken = True
            tasks.append(self._waiting.popleft())
            size += task.size
        self._examples -= size
        self._running += 1
        self._wake_first()
        return tasks

    def _wake_first(self) -> None:
        if self._waiting:
            self._waiting[0].woken.set()

    def _abandon(self, tasks: list[_Task]) -> None:
        with self._lock:
            for task in tasks:
                if task in self._waiting:
                    self._waiting.remove(task)
                    self._examples -= task.size
            self._wake_first()
            # A leader waits for as long as those who are gone would have waited.
            self._filled.set()

    def _fits(self, task: _Task, first: _Task) -> bool:
        """Whether two tasks may share a batch."""
        pairs = zip(task.inputs, first.inputs, strict=True)
        if self._batching.pad_variable_length:
            return all(a.ndim == b.ndim and a.dtype == b.dtype for a, b in pairs)
        return all(a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in pairs)

    def _execute(self, tasks: list[_Task]) -> None:
        try:
            for task, answer in zip(tasks, self._together(tasks), strict=True):
                task.answer = answer
        # The requests of the batch get any exception as an error.
        except Exception as error:
            if len(tasks) == 1:
                tasks[0].answer = error
            else:
                for task in tasks:
                    self._alone(task)
        finally:
            with self._lock:
                self._running -= 1
                self._wake_first()
            for task in tasks:
                task.woken.set()

    def _alone(self, task: _Task) -> None:
        try:
            (task.answer,) = self._together([task])
        except Exception as error:
            task.answer = error

    def _together(self, tasks: list[_Task]) -> list[list[np.ndarray]]:
        size = sum(task.size for task in tasks)
        padding = self._batching.padded(size) - size
        columns = zip(*(task.inputs for task in tasks), strict=True)
        batch = [_joined(list(column), padding) for column in columns]
        outputs = self._run(dict(zip(self._names, batch, strict=True)))
        if any(output.ndim == 0 for output in outputs):
            raise Failure(StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if any(len(output) != size + padding for output in outputs):
            raise Failure(
                StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors",
            )
        ends = np.cumsum([task.size for task in tasks])
        return [
            [output[end - task.size : end] for output in outputs]
            for task, end in zip(tasks, ends, strict=True)
        ]


def _size(arrays: list[np.ndarray]) -> int:
    """The number of examples of a request."""
    if not arrays:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in arrays):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if len({len(array) for array in arrays}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    if not len(arrays[0]):
        raise invalid("Batching Run() input tensors must have at least one example")
    return len(arrays[0])


def _joined(arrays: list[np.ndarray], padding: int) -> np.ndarray:
    """Joins arrays along the first axis and repeats the first example `padding` times."""
    if len({array.shape[1:] for array in arrays}) > 1:
        longest = np.max([array.shape[1:] for array in arrays], axis=0)
        arrays = [_lengthened(array, longest) for array in arrays]
    if padding:
        arrays = [*arrays, np.repeat(arrays[0][:1], padding, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _lengthened(array: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Fills an array up with its first value to `lengths` along all axes but the first."""
    nothing = b"" if array.dtype == object else 0
    filled = np.empty((len(array), *lengths), array.dtype)
    filled.fill(array.flat[0] if array.size else nothing)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled
