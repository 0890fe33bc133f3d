"""Callbacks whose state is saved in checkpoints."""

from typing import Any

import keras


class Resumable(keras.callbacks.Callback):
    """A callback whose state survives an interruption of the run; a new run starts afresh.

    Args:
        state: The attributes that are the state, with their values when training begins: None,
            numbers, texts, arrays, or lists of these, which are replaced and never changed.
    """

    def __init__(self, **state: Any):
        super().__init__()
        self._first_state = state
        self.set_state(state)

    def on_train_begin(self, logs=None):
        self.set_state(self._first_state)

    def get_state(self) -> dict[str, Any]:
        """Returns the state for a resumed run."""
        return {name: getattr(self, name) for name in self._first_state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from `get_state`; call it after `on_train_begin`."""
        for name in self._first_state:
            setattr(self, name, state[name])
