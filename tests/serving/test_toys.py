"""Detectors, generators and tables are exported, verified, served and queried."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from serving import checks, parity, predict
from serving.client import Client
from serving.signature import ask
from tests.serving.toys import COLUMNS, TOYS, named_boxes

TARGETS = ["grpc", "rest", "folder"]


@pytest.fixture(params=TARGETS)
def client(request, server):
    with Client(getattr(server, request.param)) as client:
        yield client


@pytest.mark.parametrize("name", TOYS)
def test_every_check_of_verify_passes(exported_toys, name):
    found = {check.check: check for check in checks.run(exported_toys / name / "1")}
    assert list(found) == list(checks.CHECKS)
    assert not [check for check in found.values() if not check.passed]
    assert found["XLA"].detail.startswith("serving_default at 1, 8, 32")


@pytest.mark.parametrize("name", TOYS)
def test_servers_and_folders_answer_as_the_live_model(client, toys, name):
    toy = toys[name]
    expected = ask(toy.signature, toy.model, toy.warmup)
    received = client.predict(name, toy.warmup)
    assert parity.difference([(expected, received)], 1e-5, toy.signature.ties) < 1e-5


def test_the_toys_answer_what_they_should(toys):
    found = {name: ask(toy.signature, toy.model, toy.warmup) for name, toy in toys.items()}
    # Both halves of an image are the same, and both classes have the same weights.
    first, fourth, fifth = found["detector"]["scores"].T[[0, 3, 4]]
    np.testing.assert_allclose(first, fourth, rtol=1e-6)
    assert np.all(fourth > fifth + 1e-4)
    assert len({len(text.decode()) for text in found["generator"]["text"]}) == 1
    assert np.all(found["generator"]["log_probability"] < 0)
    assert found["table"]["Summe (cm)"].tolist() == [1111, 222, 1333]


# Ties.


def reversed_where_live(outputs):
    """Ranks equal scores the other way than the exported graph does."""
    if not tf.executing_eagerly():
        return named_boxes(outputs)
    # The first four scores are equal.
    order = [3, 2, 1, 0, 4, 5]
    return named_boxes({name: tf.gather(outputs[name], order, axis=1) for name in outputs})


def test_rows_of_equal_scores_may_be_swapped_in_an_export(tmp_path, toys):
    toy = toys["detector"]
    signature = dataclasses.replace(toy.signature, postprocess=reversed_where_live)
    single = {name: values[:1] for name, values in toy.warmup.items()}
    assert dataclasses.replace(toy, signature=signature, warmup=single).export(tmp_path / "ties")
    signature = dataclasses.replace(signature, ties=None)
    with pytest.raises(ValueError, match="does not answer the warmup examples like the live model"):
        dataclasses.replace(toy, signature=signature, warmup=single).export(tmp_path / "none")


def test_the_card_says_where_ties_were_allowed(exported_toys):
    def card(name):
        path = exported_toys / name / "1" / "assets.extra" / "model_card.json"
        return json.loads(path.read_text("utf-8"))["signatures"]["serving_default"]

    assert card("detector")["ties"] == {"boxes": "scores", "classes": "scores"}
    assert card("generator")["ties"] == {"text": "log_probability"}
    assert "ties" not in card("table")
    titles = {entry["title"]: entry["name"] for entry in card("table")["inputs"]}
    assert titles.keys() == COLUMNS.keys()
    assert titles["Größe (cm)"] == "Grosse_cm"
    assert titles["mean_radius"] == "mean_radius" != titles["mean radius"]
    assert {entry["meaning"] for entry in card("table")["inputs"]} == {
        f"column {name}" for name in COLUMNS
    }


# Names.


def test_a_client_takes_the_user_s_names_and_the_served_ones(client, toys):
    toy = toys["table"]
    served = {toy.signature.served[name]: values for name, values in toy.warmup.items()}
    for inputs in (toy.warmup, served):
        assert client.predict("table", inputs)["Summe (cm)"].tolist() == [1111, 222, 1333]
    with pytest.raises(ValueError, match="takes the inputs"):
        client.predict("table", {**toy.warmup, "other": [1, 2, 3]})


def test_a_folder_names_columns_as_the_user_does(exported_toys):
    with Client(exported_toys) as client:
        signature = client.metadata("table").signatures["serving_default"]
        assert sorted(map(signature.title, signature.inputs)) == sorted(COLUMNS)
        with pytest.raises(ValueError, match=r"takes the inputs .*Farbe\?, Größe \(cm\)"):
            client.predict("table", {"Größe (cm)": [1.0]})


@pytest.mark.parametrize("target", TARGETS)
def test_a_table_is_answered_under_its_own_headers(server, toys, tmp_path, capsys, target):
    path = tmp_path / "rows.csv"
    path.write_text("Größe (cm),ID,Farbe?,mean_radius,mean radius\n1,a,rot,100,10\n2,b,,200,x\n")
    assert predict.main(getattr(server, target), (path,), model="table", as_json=True) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)[f"{path}:2"] == {"Summe (cm)": 1111.0}
    assert f"{path}:3: `mean radius` must be float32. Received: 'x'" in said.err
    path.write_text("mean_radius,mean radius\n1,2\n")
    assert predict.main(str(server.folder), (path,), model="table") == 1
    said = capsys.readouterr().err
    assert "expected a column Farbe?, Größe (cm). Received: the columns mean_radius" in said
