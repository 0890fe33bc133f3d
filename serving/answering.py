"""From examples to answers, in batches."""

import base64
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import Any

import numpy as np

from serving.client import ServingError
from serving.errors import reason
from serving.examples import Example

BATCH_SIZE = 32
AT_ONCE = 2
"""Maximum number of batches in flight."""
Outputs = dict[str, Any]
Outcome = Outputs | str
"""The outputs of a model for an example, or the reason why there are none."""
Ask = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]


def answered(ask: Ask, examples: Iterator[Example]) -> Iterator[tuple[Example, Outcome]]:
    """Answers examples in their order, as many as possible at once.

    While some are answered, the next ones are read and earlier answers are used.

    Args:
        ask: Returns outputs by name for a batch of inputs by name, in several threads at once.
        examples: The examples to answer.

    Yields:
        Each example with its outputs, or with the reason why there are none.
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask") as pool:
        pending: deque[Future[list[tuple[Example, Outcome]]]] = deque()
        while batch := list(islice(examples, BATCH_SIZE)):
            pending.append(pool.submit(_by_inputs, ask, batch))
            if len(pending) > AT_ONCE:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _by_inputs(ask: Ask, batch: Sequence[Example]) -> list[tuple[Example, Outcome]]:
    # Tables may lack columns of inputs that have a default.
    groups = groupby(batch, lambda example: (example.error == "", *example.inputs))
    return [outcome for _, some in groups for outcome in _outcomes(ask, list(some))]


def _outcomes(ask: Ask, batch: Sequence[Example]) -> Iterator[tuple[Example, Outcome]]:
    if batch[0].error:
        yield from ((example, example.error) for example in batch)
        return
    try:
        outcomes: Sequence[Outcome] = _together(ask, batch)
    except (ServingError, TypeError, ValueError) as error:
        gone = isinstance(error, ServingError) and error.code == "UNAVAILABLE"
        if gone or len(batch) == 1:
            outcomes = [str(error) if gone else reason(error)] * len(batch)
        else:
            for example in batch:
                yield from _outcomes(ask, [example])
            return
    yield from zip(batch, outcomes, strict=True)


def _together(ask: Ask, batch: Sequence[Example]) -> list[Outputs]:
    columns = {key: [example.inputs[key] for example in batch] for key in batch[0].inputs}
    outputs = ask(columns)
    by_row = {key: outputs[key].ndim > 0 and len(outputs[key]) == len(batch) for key in outputs}
    if len(batch) > 1 and not all(by_row.values()):
        raise ValueError("there is not one output for each example")
    order = in_order({key: outputs[key].dtype for key in outputs})
    return [
        _without_padding({key: outputs[key][i if by_row[key] else ()] for key in order})
        for i in range(len(batch))
    ]


def in_order(dtypes: Mapping[str, np.dtype]) -> list[str]:
    """Sorts outputs: strings first, then scores, then offsets and other whole numbers."""
    kinds = {"O": 0, "S": 0, "f": 1}
    return sorted(dtypes, key=lambda key: (kinds.get(dtypes[key].kind, 2), key))


def _without_padding(outputs: dict[str, Any]) -> dict[str, Any]:
    """Cuts off the end of lists that belong together where all hold "", 0 or -1.

    Answers are padded like this to the longest of a batch, such as the tags of words. Numbers
    without a list of texts may not be padding.
    """
    lengths = {np.shape(value)[0] for value in outputs.values() if np.ndim(value) > 0}
    lists = [value for value in outputs.values() if np.ndim(value) == 1]
    if len(lengths) != 1 or not any(value.dtype.kind in "OS" for value in lists):
        return outputs
    if any(len(value) and value[-1] not in (b"", 0, -1) for value in lists):
        return outputs
    blank = np.all([[item in (b"", 0, -1) for item in value] for value in lists], axis=0)
    count = len(blank) - int(np.argmin(blank[::-1])) if not blank.all() else 0
    return {key: value[:count] if np.ndim(value) else value for key, value in outputs.items()}


def as_plain(name: str, value: Any) -> Any:
    """Returns an output for JSON: text, or base64 where its name ends in `_bytes`, and numbers."""
    if isinstance(value, np.ndarray):
        return [as_plain(name, item) for item in value]
    if isinstance(value, bytes):
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode(errors="replace")
    # The shortest text that reads back as the same float32.
    return float(str(value)) if isinstance(value, np.floating) else value.item()
