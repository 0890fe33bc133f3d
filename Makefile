PYTHON ?= python3
export TF_CPP_MIN_LOG_LEVEL ?= 3
DATA ?= ../shared/data/sst2

.PHONY: run test test-slow test-backends lint bench

run: .venv/installed
	.venv/bin/hornbook image_classification

test: lint
	.venv/bin/python -m pytest -q -m "not slow" -n 2 --dist loadscope

test-slow: .venv/presets
	.venv/bin/python -m pytest -q -m slow -n 2 --dist loadscope

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test-backends: .venv-backends/installed
	KERAS_BACKEND=jax .venv-backends/bin/python -m pytest tests/layers -q
	KERAS_BACKEND=torch .venv-backends/bin/python -m pytest tests/layers -q

bench: .venv-bench/installed
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.layers
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.training_speed
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.input_pipeline
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.serving
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.serving_batching
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.text_speed --data $(DATA)
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.writing_speed

.venv/installed: requirements.txt pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

.venv/presets: .venv/installed tests/presets.txt
	.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r tests/presets.txt
	touch $@

.venv-backends/installed: tests/backends.txt
	test -x .venv-backends/bin/python || $(PYTHON) -m venv .venv-backends
	.venv-backends/bin/python -m pip install -q --disable-pip-version-check -r tests/backends.txt
	touch $@

.venv-bench/installed: requirements.txt benchmarks/requirements.txt tests/presets.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt -r benchmarks/requirements.txt
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check --no-deps -r tests/presets.txt
	touch $@
