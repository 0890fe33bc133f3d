from serving.server.metrics import EDGES, Metrics


def test_requests_are_counted_by_model_and_status():
    metrics = Metrics()
    for status in ("OK", "OK", "NOT_FOUND"):
        metrics.record("m", "Predict", "GRPC", status, 0.001)
    lines = metrics.text().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2' in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1' in lines


def test_latencies_of_answered_requests_are_a_cumulative_histogram_in_microseconds():
    metrics = Metrics()
    for seconds in (5e-6, 15e-6, 1e9):
        metrics.record("m", "Predict", "REST", "OK", seconds)
    metrics.record("m", "Predict", "REST", "INTERNAL", 1.0)
    labels = 'model_name="m",API="Predict",entrypoint="REST"'
    name = ":tensorflow:serving:request_latency"
    text = metrics.text()
    assert f"# TYPE {name} histogram" in text
    assert f'{name}_bucket{{{labels},le="10"}} 1\n' in text
    assert f'{name}_bucket{{{labels},le="18"}} 2\n' in text
    assert f'{name}_bucket{{{labels},le="{EDGES[-1]:g}"}} 2\n' in text
    assert f'{name}_bucket{{{labels},le="+Inf"}} 3\n' in text
    assert f"{name}_count{{{labels}}} 3\n" in text


def test_names_are_escaped():
    metrics = Metrics()
    metrics.record('a"b\\c\nd', "Predict", "GRPC", "OK", 0.1)
    assert r'model_name="a\"b\\c\nd"' in metrics.text()
