"""The playground in a browser, against a server with small models of every kind of answer."""

import ast
import base64
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from tensorflow.core.protobuf import saved_model_pb2

from serving.warmup import Record, write_records
from tests.serving.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "serving" / "server" / "playground.html"
CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
NODE = shutil.which("node")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="needs the Debian packages chromium, chromium-driver",
    ),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MARKUP = '<img src="x" onerror="window.fooled = 1"><b>bold</b>'
SENTENCE = "👋 Ada Lovelace lived in London."
DOCUMENT = "Ünder 1000 feet.\nThe tower is 330 metres tall."


# The models.


def texts(*names: str) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((None,), tf.string, name=name) for name in names]


def repeated(batch: tf.Tensor, value: Any) -> tf.Tensor:
    """The same answer to every example of a batch."""
    value = tf.convert_to_tensor(value)
    return tf.tile(value[None], [tf.shape(batch)[0], *[1] * value.shape.rank])


def classify(image_bytes):
    sizes = tf.map_fn(lambda one: tf.shape(tf.io.decode_image(one))[0], image_bytes, tf.int32)
    return {
        "classes": repeated(sizes, [MARKUP, "dog", "owl"]),
        "scores": repeated(sizes, [0.75, 0.2, 0.05]),
    }


def detect(image_bytes):
    return {
        # Two objects and an empty place: top, left, bottom, right.
        "boxes": repeated(image_bytes, [[2.0, 20, 18, 36], [4, 2, 12, 10], [0, 0, 0, 0]]),
        "classes": repeated(image_bytes, ["cat", "dog", ""]),
        "scores": repeated(image_bytes, [0.9, 0.2, 0.0]),
        "masks": repeated(image_bytes, np.stack([np.tri(4), np.ones((4, 4)), np.zeros((4, 4))])),
    }


def segment(image_bytes):
    """An object in an image of 20 x 40 pixels; the mask fills the upper half of its box."""
    inside = np.zeros((40, 20, 1), np.uint8)
    inside[10:20, 4:16] = 255
    return {
        "boxes": repeated(image_bytes, [[4.0, 10, 16, 30], [0, 0, 0, 0]]),
        "classes": repeated(image_bytes, ["cat", ""]),
        "scores": repeated(image_bytes, [0.9, 0.0]),
        "mask_bytes": repeated(image_bytes, tf.stack([tf.io.encode_png(inside), ""])),
    }


def tag(text):
    return {
        "starts": repeated(text, [2, 6, 15, 24]),
        "ends": repeated(text, [5, 14, 20, 30]),
        "tags": repeated(text, ["B-PER", "I-PER", "O", "B-LOC"]),
    }


def read(question, document):
    return {
        "answer": repeated(question, "330 metres"),
        "start": repeated(document, 30),
        "end": repeated(document, 40),
        "score": repeated(document, 0.875),
    }


def scale(rows, factor, exact):
    return {
        "scaled": rows * factor,
        "exact": exact + 1,
        "gap": tf.constant([np.nan, np.inf], tf.float32),
    }


def draw(text):
    picture = tf.io.encode_png(tf.zeros((6, 9, 3), tf.uint8))
    return {"picture_bytes": tf.repeat(picture[None], tf.shape(text)[0])}


def rate(examples):
    rows = tf.io.parse_example(examples, {"stars": tf.io.FixedLenFeature((2,), tf.float32)})
    return {"scores": rows["stars"], "classes": repeated(examples, ["good", "bad"])}


def number(values: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(values, 2 if values.dtype.is_floating else -1)


def write_on(prompt, max_tokens, seed, temperature, top_k, top_p):
    parts = ["\n  and ", MARKUP, "  seed ", number(seed), " at ", number(temperature), ", "]
    text = tf.strings.join([*parts, number(top_p), " "])
    return {
        "text": text,
        "log_probability": repeated(prompt, -12.5),
        "finish_reason": tf.where(max_tokens < 20, "length", "stop"),
        "tokens": top_k,
    }


def search(prompt):
    return {
        "texts": repeated(prompt, [" first", " second"]),
        "scores": repeated(prompt, [-0.5, -1.25]),
    }


def translate(text):
    return {"translation": tf.strings.upper(text), "score": repeated(text, -0.25)}


def attend(text):
    """Each piece attends to the one at its position, and a little to the next."""
    pieces = tf.strings.split(text).to_tensor("")
    weights = tf.linalg.diag(tf.cast(pieces != "", tf.float32))
    same, following = (tf.pad(weights, [[0, 0], [0, 0], pad]) for pad in ([0, 1], [1, 0]))
    return {
        "translation": tf.strings.upper(text),
        "source_pieces": tf.pad(pieces, [[0, 0], [0, 1]], constant_values="</s>"),
        "translation_pieces": tf.strings.upper(pieces),
        "attention": 0.75 * same + 0.25 * following,
    }


def reply(turns, system, seed):
    """Says what arrived; on the word "nothing" nothing."""
    said = tf.strings.reduce_join(turns, 1, separator="|")
    text = tf.strings.join([system, ": ", said, " #", number(seed)])
    return {
        "reply": tf.where(turns[:, -1] == "nothing", "", text),
        "finish_reason": repeated(system, "stop"),
    }


def numbers(**dtypes: tf.DType) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((None,), dtype, name=name) for name, dtype in dtypes.items()]


def save_writers(base: Path) -> None:
    """Models that continue texts, translate and reply."""
    choice = numbers(
        max_tokens=tf.int32,
        seed=tf.int64,
        temperature=tf.float32,
        top_k=tf.int32,
        top_p=tf.float32,
    )
    save(
        base / "writer" / "1",
        {
            "serving_default": (search, texts("prompt")),
            "generate": (write_on, [*texts("prompt"), *choice]),
        },
        {"config": {"temperature": 0.8, "max_tokens": 40, "length": 100, "seed": 7}},
    )
    save(
        base / "translator" / "1",
        {"serving_default": (translate, texts("text")), "attention": (attend, texts("text"))},
    )
    turns = tf.TensorSpec((None, None), tf.string, name="turns")
    save(
        base / "speaker" / "1",
        {"generate": (reply, [turns, *texts("system"), *numbers(seed=tf.int64)])},
        {"config": {"system": "Be kind"}},
    )


def save(
    folder: Path,
    signatures: dict[str, tuple[Callable, list[tf.TensorSpec]]],
    card: dict | None = None,
) -> None:
    module = tf.Module()
    functions = {
        name: tf.function(compute, input_signature=specs)
        for name, (compute, specs) in signatures.items()
    }
    module.functions = list(functions.values())
    tf.saved_model.save(
        module,
        str(folder),
        signatures={name: made.get_concrete_function() for name, made in functions.items()},
    )
    if card is not None:
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra" / "model_card.json").write_text(json.dumps(card))


def say_classifies(folder: Path) -> None:
    """Marks `serving_default` as one for the classify method, as TensorFlow 1 did."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/classify"
    path.write_bytes(saved.SerializeToString())


def meanings(**words: str) -> dict:
    """A card's words for the inputs and outputs of `serving_default`."""
    described = [{"name": name, "meaning": meaning} for name, meaning in words.items()]
    return {"signatures": {"serving_default": {"inputs": described, "outputs": described}}}


def save_classifier(folder: Path) -> None:
    card = {
        "task": "image classification",
        "data": MARKUP,
        "scores": {"accuracy": 0.98765432},
        "num_test": 270,
        "date": "2026-03-01T12:00:00+00:00",
        "Samples": [{"file": "a.png", "score": 0.25}, {"file": MARKUP, "score": "high"}],
        **meanings(image_bytes=f"PNG files {MARKUP}", scores="probabilities"),
    }
    save(folder, {"serving_default": (classify, texts("image_bytes"))}, card)


def save_models(base: Path) -> None:
    save_classifier(base / "classifier" / "1")
    pngs = [tf.io.encode_png(np.full((4, 4, 3), i, np.uint8)).numpy() for i in (0, 255)]
    images = {"image_bytes": np.array(pngs, object)}
    write_records(base / "classifier" / "1", [Record("serving_default", images, {})])
    save(
        base / "detector" / "1",
        {"serving_default": (detect, texts("image_bytes"))},
        meanings(
            boxes="objects in pixels of the original image: ymin, xmin, ymax and xmax",
            masks="of each object within its box, from 0 to 1",
        ),
    )
    save(base / "segmenter" / "1", {"serving_default": (segment, texts("image_bytes"))})
    save(base / "tagger" / "1", {"serving_default": (tag, texts("text"))})
    save(base / "reader" / "1", {"serving_default": (read, texts("question", "document"))})
    save(base / "rater" / "1", {"serving_default": (rate, texts("inputs"))})
    say_classifies(base / "rater" / "1")
    save(base / "painter" / "1", {"serving_default": (draw, texts("text"))})
    save_writers(base)
    table = [
        tf.TensorSpec((None, 3), tf.float32, name="rows"),
        tf.TensorSpec((), tf.float32, name="factor"),
        tf.TensorSpec((), tf.int64, name="exact"),
    ]
    save(
        base / "scaler" / "1",
        {"scale": (scale, table), "tag": (tag, texts("text"))},
        {"signatures": {"scale": {"inputs": [{"name": "factor", "title": "Größe (cm)"}]}}},
    )
    rows = np.array([[1, 2.5, np.nan], [3, 4, 5]], np.float32)
    scaled = {"rows": rows, "factor": np.array(2, np.float32), "exact": np.array(2**60 + 1)}
    tagged = [{"text": np.array(some, object)} for some in ([b"Ada"], ["«Ö».\n".encode(), b"x"])]
    write_records(
        base / "scaler" / "1",
        [Record("scale", scaled, {}), *(Record("tag", some, {}) for some in tagged)],
    )


# The server and the browser.


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("playground") / "models"
    save_models(base)
    return base


@pytest.fixture(scope="module")
def server(models) -> Iterator[str]:
    """The address of a server that keeps all versions of the models."""
    config = models.parent / "models.config"
    blocks = [
        f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" '
        "model_version_policy { all {} } }"
        for path in models.iterdir()
    ]
    config.write_text(f"model_config_list {{ {' '.join(blocks)} }}")
    port = free_port()
    log = (models.parent / "log").open("w")
    command = [sys.executable, "-m", "serving", "serve", "--model_config_file", str(config)]
    flags = ["--port", "0", "--rest_api_port", str(port), "--max_num_load_retries", "0"]
    process = subprocess.Popen(command + flags, cwd=ROOT, stdout=log, stderr=log)
    try:
        address = f"http://localhost:{port}/"
        wait_for(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_for(process: subprocess.Popen, address: str) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with status {process.returncode}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The server did not start within a minute")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    yield driver
    driver.quit()


class Page:
    """The playground as somebody before the screen has it."""

    def __init__(self, browser: webdriver.Chrome, server: str):
        self.browser, self.server = browser, server

    def open(self, place: str) -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.server}#{place}")
        self.one(".signature")

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        """The first that matches, once it is there."""
        return self.wait(lambda: next(iter(self.all(selector)), None), selector)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Asks again while the page draws what it asks for anew."""
        wait = WebDriverWait(self.browser, 20, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition(), f"No {what}")

    def field(self, name: str) -> WebElement:
        """What is filled in for an input of the signature that is open."""
        labels = self.all(".signature[open] label")
        label = next(one for one in labels if words(one, "code") == [name])
        return self.browser.find_element("id", str(label.get_attribute("for")))

    def fill(self, **values: str | Path) -> None:
        for name, value in values.items():
            field = self.field(name)
            if field.get_attribute("type") != "file":
                field.clear()
            field.send_keys(str(value))

    def ask(self, **values: str | Path) -> WebElement:
        """Fills the form that is open, sends it, and returns the answer."""
        self.fill(**values)
        self.one(".signature[open] form button.main").click()
        return self.answer()

    def answer(self) -> WebElement:
        return self.one('.signature[open] .answer[aria-busy="false"]')

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def pixel(self, x: float, y: float) -> tuple[int, ...]:
        """Colour of the answer's picture at a place of the original image."""
        script = """
            const [canvas, image] = [".answer canvas", ".previews img"].map(
                (selector) => document.querySelector(selector));
            const scale = canvas.width / image.naturalWidth;
            return [...canvas.getContext("2d").getImageData(
                arguments[0] * scale, arguments[1] * scale, 1, 1).data];
        """
        return tuple(self.run(script, x, y)[:3])


@pytest.fixture
def page(browser, server) -> Iterator[Page]:
    """Fails a test that leaves an error in the console, but for refused requests."""
    browser.get_log("browser")
    yield Page(browser, server)
    errors = [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert [one for one in errors if "Failed to load resource" not in one] == []


@pytest.fixture
def image(tmp_path) -> Path:
    """White, 40 x 20 pixels; its name needs quotes in a shell."""
    path = tmp_path / "it's a $white image.png"
    Image.new("RGB", (40, 20), "white").save(path)
    return path


def words(element: WebElement, selector: str) -> list[str]:
    return [one.text for one in element.find_elements("css selector", selector)]


# What is shown of models.


def test_models_are_listed_with_versions_and_card(page):
    page.open("classifier")
    names = ["classifier", "detector", "painter", "rater", "reader", "scaler"]
    names += ["segmenter", "speaker", "tagger", "translator", "writer"]
    assert [text.split("\n") for text in words(page.one("nav"), "a")] == [
        [name, "version 1"] for name in names
    ]
    about = page.one("#about")
    assert words(about, "tbody td")[:2] == ["version 1", "answers"]
    card = dict(zip(words(about, "dt"), words(about, "dd"), strict=True))
    assert card["task"] == "image classification"
    assert card["scores"] == "accuracy 0.98765\non 270 test examples"
    assert "2026" in card["date"]
    assert words(about, "dd th") == ["file", "score"]
    assert words(about, "dd td") == ["a.png", "0.25", MARKUP, "high"]


def test_first_model_is_shown_when_none_is_named(page):
    page.open("")
    assert page.one("h2").text == "classifier"
    assert page.browser.title == "classifier · Hornbook playground"


def test_model_without_card_says_so(page):
    page.open("tagger")
    assert "has no model card" in page.one("#about").text


def test_markup_of_a_model_stays_text(page, image):
    page.open("classifier")
    answer = page.ask(image_bytes=image)
    assert words(answer, ".bars span:first-child") == [MARKUP]
    assert MARKUP in page.one(".card").text
    assert f"PNG files {MARKUP}" in page.one(".field").text
    assert page.all("b, img[src='x']") == []
    assert page.run("return window.fooled ?? null") is None


def test_page_is_one_file_that_never_parses_markup(page):
    text = PAGE.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", text)
    page.open("classifier")
    loaded = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert set(loaded) == {f"{page.server}playground/models"}


# Answers.


def test_scores_are_bars_beside_their_labels(page, image):
    page.open("classifier")
    answer = page.ask(image_bytes=image)
    assert words(answer, ".bars > span:nth-child(3n)") == ["75.0 %", "20.0 %", "5.0 %"]
    widths = page.run("return [...document.querySelectorAll('.bar i')].map((i) => i.style.width)")
    assert widths == ["75%", "20%", "5%"]
    preview = page.one(".drop img")
    assert preview.is_displayed() and "20 pixels" in page.one(".drop").text


def test_boxes_are_drawn_in_the_order_that_the_card_says(page, image):
    page.open("detector")
    answer = page.ask(image_bytes=image)
    # The second is below the least score that is shown at first, the third is no object.
    assert words(answer, "tbody td") == ["cat", "90.0 %", "20", "2", "36", "18"]
    assert page.pixel(38, 10) == page.pixel(6, 8) == (255, 255, 255)
    edges = [page.pixel(*place) for place in ((20, 10), (36, 10), (28, 2), (28, 18))]
    assert len(set(edges)) == 1 and edges[0] != (255, 255, 255)
    # The mask fills the lower left of the box, half transparent.
    assert page.pixel(34, 4) == (255, 255, 255)
    assert page.pixel(22, 16) not in (edges[0], (255, 255, 255))


def test_lower_least_score_shows_more_boxes(page, image):
    page.open("detector")
    answer = page.ask(image_bytes=image)
    answer.find_element("css selector", "input[type=range]").send_keys(Keys.HOME)
    assert words(answer, "tbody td:first-child") == ["cat", "dog"]
    assert "2 of 2 shown" in answer.text
    assert page.pixel(6, 8) != (255, 255, 255)


def test_image_is_drawn_upright_as_models_see_it(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (40, 20), "white").save(path, exif=exif)
    page.open("detector")
    page.ask(image_bytes=path)
    size = page.run("const c = document.querySelector('canvas'); return c.width / c.height")
    assert size == 0.5


def test_masks_in_files_are_drawn_on_the_upright_image_in_the_color_of_the_class(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (40, 20), "white").save(path, exif=exif)
    page.open("segmenter")
    answer = page.ask(image_bytes=path)
    white = (255, 255, 255)
    page.wait(lambda: page.pixel(10, 15) != white, "mask")
    assert page.pixel(10, 25) == page.pixel(10, 5) == page.pixel(2, 15) == white
    edge = np.array(page.pixel(4, 25))
    # 0.55 of the color on white.
    np.testing.assert_allclose(page.pixel(10, 15), 255 - 0.55 * (255 - edge), atol=2)
    # They are no pictures of their own.
    assert answer.find_elements("css selector", "img") == []
    answer.find_element("css selector", "input[type=range]").send_keys(Keys.END)
    assert page.pixel(10, 15) == white


@pytest.mark.parametrize(
    "meaning, order",
    [
        ("", "left top right bottom"),
        ("of objects", "left top right bottom"),
        ("left, top, right, bottom in pixels", "left top right bottom"),
        ("corners [ymin, xmin, ymax, xmax]", "top left bottom right"),
        ("pixels (x1, y1, x2 and y2), best first", "left top right bottom"),
        ("x, y, width, height from the top left", "left top width height"),
        ("from the left: top, left, bottom, right", "top left bottom right"),
    ],
)
def test_order_of_a_box_is_read_from_the_card(page, meaning, order):
    page.open("tagger")
    assert page.run("return boxOrder(arguments[0]).join(' ')", meaning) == order


def test_tags_are_highlighted_in_the_text(page):
    page.open("tagger")
    # The driver types no character beyond 16 bits.
    page.run("arguments[0].value = arguments[1]", page.field("text"), SENTENCE)
    answer = page.ask()
    assert words(answer, "mark") == ["Ada LovelacePER", "LondonLOC"]
    (marked,) = words(answer, ".spans")
    assert marked.replace("PER", "").replace("LOC", "") == SENTENCE


def test_answer_is_highlighted_in_the_document(page):
    page.open("reader")
    answer = page.ask(question="How tall?", document=DOCUMENT)
    assert words(answer, "mark") == ["330 metres"]
    assert answer.find_element("css selector", ".spans").text == DOCUMENT
    assert words(answer, ".bars span") == ["330 metres", "", "87.5 %"]


def test_columnar_request_keeps_large_integers_and_shows_what_is_no_number(page):
    page.open("scaler")
    assert page.field("rows").get_attribute("value") == "[0.0, 0.0, 0.0]"
    answer = page.ask(rows="[1.5, 2, 3]", factor="2", exact="9007199254740993")
    assert words(answer, "dl") == ["exact\n9007199254740994"]
    assert words(answer, "table")[0].split("\n")[1:] == ["0 NaN", "1 Infinity"]
    assert words(answer, "table")[1].split("\n")[1:] == ["0 3", "1 4", "2 6"]
    assert '"inputs": {"exact": 9007199254740993, "factor": 2' in page.one(".curl").text


def test_the_user_s_names_are_shown_and_the_served_ones_sent(page):
    page.open("scaler")
    assert page.one(".signature[open] summary small").text.startswith("exact, Größe (cm), rows →")
    labels = [one.text for one in page.all(".signature[open] label")]
    assert labels == ["exact int64", "Größe (cm) factor float", "rows float [3]"]
    assert '"factor": 0' in page.one(".curl").text and "Größe" not in page.one(".curl").text


def test_bytes_of_a_picture_are_shown_as_one(page):
    page.open("painter")
    answer = page.ask(text="anything")
    (picture,) = answer.find_elements("css selector", "img")
    size = page.wait(lambda: page.run("return arguments[0].naturalWidth", picture), "picture")
    assert size == 9


def test_examples_of_the_classify_method_are_sent_to_it(page):
    page.open("rater")
    answer = page.ask(example='{"stars": [0.25, 0.75]}')
    assert words(answer, ".bars > span") == ["good", "", "25.0 %", "bad", "", "75.0 %"]
    assert ":classify" in page.one(".curl").text


def test_dropped_file_is_taken(page):
    page.open("classifier")
    page.run(
        """
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(["dropped"], "dropped.png"));
        const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
        document.querySelector(".drop").dispatchEvent(event);
        """
    )
    page.wait(lambda: "dropped.png, 7 bytes" in page.one(".drop").text, "dropped file")
    assert "$(base64 -w0 dropped.png)" in page.one(".curl").text


def test_scores_without_labels_take_those_of_the_card_and_may_be_negative(page):
    page.open("tagger")
    script = """
        const outputs = new Map([["logits", { value: [-1, 3, 0] }]]);
        const chart = bars(outputs, { classes: ["a", "b", "c"] });
        const styles = [...chart.querySelectorAll("i")].map(({ style }) => style.cssText);
        return [chart.textContent, styles];
    """
    text, styles = page.run(script)
    assert text == "b3c0a-1"
    assert styles == [
        "left: 25%; width: 75%;",
        "left: 25%; width: 0%;",
        "left: 0%; width: 25%;",
    ]


def test_large_answer_is_read(page):
    page.open("tagger")
    script = """
        const text = JSON.stringify({ bytes: "x".repeat(2e7), numbers: Array(1e6).fill(0.5) });
        return parse(text).numbers.length;
    """
    assert page.run(script) == 1_000_000


def test_second_signature_has_a_form_of_its_own(page):
    page.open("scaler")
    scaling, tagging = page.all(".signature")
    scaling.find_element("css selector", "summary").click()
    tagging.find_element("css selector", "summary").click()
    answer = page.ask(text="Ada Lovelace")
    assert words(answer, "mark")
    assert '"signature_name": "tag"' in words(tagging, ".curl")[0]


# Texts that a network writes.


def value(page: Page, name: str) -> str:
    return str(page.field(name).get_property("value"))


def shown(element: WebElement, selector: str) -> list[str]:
    """The texts of elements with all their white space."""
    found = element.find_elements("css selector", selector)
    return [str(one.get_property("textContent")) for one in found]


@pytest.mark.parametrize(
    "inputs, outputs, form",
    [
        ({"prompt": []}, ["text"], "prompt"),
        ({"text": []}, ["translation"], "translation"),
        ({"text": []}, ["texts"], "translation"),
        ({"turns": [None]}, ["reply"], "chat"),
        ({"turns": []}, ["reply"], ""),
        ({"text": []}, ["tags"], ""),
        ({"text": [], "translation": []}, ["log_probability"], ""),
        ({"temperature": []}, ["text"], ""),
    ],
)
def test_form_follows_from_names_and_shapes(page, inputs, outputs, form):
    page.open("tagger")
    items = [{"name": name, "type": "string", "shape": shape} for name, shape in inputs.items()]
    signature = {
        "inputs": items,
        "outputs": [{"name": name, "type": "string"} for name in outputs],
    }
    assert page.run("return writingForm(arguments[0])", signature) == form


def test_continuation_is_set_off_from_its_prompt_as_it_was_written(page):
    page.open("writer")
    assert words(page.one(".signature[open] h3"), "code") == ["generate"]
    # The card has the first values of all but `top_p` and `top_k`.
    names = ("temperature", "top_p", "top_k", "max_tokens", "seed")
    assert [value(page, name) for name in names] == ["0.8", "1", "0", "40", "7"]
    assert page.field("max_tokens").get_property("max") == "99"
    page.field("temperature").send_keys(Keys.ARROW_RIGHT)
    page.field("top_k").send_keys(Keys.ARROW_RIGHT * 3)
    page.field("max_tokens").send_keys(Keys.HOME)
    assert shown(page.one(".signature[open] .choices"), "output") == ["1", "0.81", "3", "1"]
    prompt = "Once <b>upon</b>  a\n time"
    answer = page.ask(prompt=prompt)
    written = f"\n  and {MARKUP}  seed 7 at 0.81, 1.00 "
    assert shown(answer, ".written") == [prompt + written]
    assert shown(answer, ".written mark") == [written]
    paper = "return getComputedStyle(arguments[0]).backgroundColor"
    text, mark = (answer.find_element("css selector", one) for one in (".written", "mark"))
    assert page.run(paper, text) != page.run(paper, mark)
    facts = "finish_reason: length · log_probability: -12.5 · tokens: 3"
    assert words(answer, ".print") == [facts]
    assert page.run("return window.fooled ?? null") is None


@pytest.mark.parametrize(
    ("reads", "writes", "config", "most"),
    [
        ("prompt", "text", {"length": 100, "max_tokens": 40}, "99"),
        ("prompt", "text", {"length": 100, "max_tokens": 40, "compile_export": True}, "40"),
        ("text", "translation", {"length": 100, "max_tokens": 40}, "100"),
        ("prompt", "text", {}, "256"),
    ],
)
def test_sliders_end_at_what_the_model_accepts(page, reads, writes, config, most):
    page.open("tagger")
    script = """
        const fields = makeFields(arguments[0], { config: arguments[1] });
        return fields.slice(1).map(({ element }) => {
            const { value, max } = element.querySelector("input");
            return [value, max];
        });
    """
    signature = {
        "method": "predict",
        "inputs": [
            {"name": reads, "type": "string", "shape": []},
            {"name": "temperature", "type": "float", "shape": []},
            {"name": "max_tokens", "type": "int32", "shape": []},
        ],
        "outputs": [{"name": writes, "type": "string"}],
    }
    value = str(config.get("max_tokens", 64))
    assert page.run(script, signature, config) == [["0", "2"], [value, most]]


def test_another_answer_has_another_seed(page):
    page.open("writer")
    page.ask(prompt="Once")
    button = page.one(".signature[open] .another")
    for seed in ("8", "9"):
        button.send_keys(Keys.ENTER)
        assert f"seed {seed} at" in page.answer().text
        assert (
            value(page, "seed") == seed
            and f'"seed": {seed},' in page.one(".signature[open] .curl").text
        )


def test_texts_of_a_search_are_set_off_with_their_scores(page):
    page.open("writer")
    for signature in page.all(".signature"):
        signature.find_element("css selector", "summary").click()
    answer = page.ask(prompt="The")
    assert shown(answer, ".written") == ["The first", "The second"]
    assert words(answer, ".written + small") == ["score: -0.5", "score: -1.25"]


def test_translation_is_beside_its_text_with_lines_of_attention(page):
    page.open("translator")
    answer = page.ask(text="der <b>kleine</b> Hund")
    assert words(answer, ".pair p") == ["der <b>kleine</b> Hund", "DER <B>KLEINE</B> HUND"]
    left, right = (one.rect for one in answer.find_elements("css selector", ".pair p"))
    assert left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
    assert words(answer, ".print") == ["score: -0.25"]
    assert words(answer, ".pieces.source span") == ["der", "<b>kleine</b>", "Hund", "</s>"]
    options = answer.find_elements("css selector", "[role=option]")
    assert [one.text for one in options] == ["DER", "<B>KLEINE</B>", "HUND"]
    assert words(answer, "line") == []
    ActionChains(page.browser).move_to_element(options[1]).perform()
    page.wait(lambda: words(answer, "line"), "lines")
    height = 0.375  # The middle of the second of four rows.
    begins_and_weights = [(0.125, 0), (0.375, 0.75), (0.625, 0.25), (0.875, 0)]
    assert drawn(page) == [(begin, height, weight) for begin, weight in begins_and_weights]
    assert "<b>kleine</b> 75.0\xa0%, Hund 25.0\xa0%" in shown(answer, "[role=status]")[0]
    page.run("arguments[0].focus()", options[0])
    assert drawn(page)[:2] == [(0.125, 0.125, 0.75), (0.375, 0.125, 0.25)]
    options[0].send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert [one.get_attribute("aria-selected") for one in options] == ["false", "false", "true"]
    assert drawn(page)[2:] == [(0.625, 0.625, 0.75), (0.875, 0.625, 0.25)]


def drawn(page: Page) -> list[tuple[float, float, float]]:
    """Where the lines begin and end, as parts of the height, and their opacity, if any."""
    script = """
        return [...document.querySelectorAll(".attention line")].map((line) => [
            parseFloat(line.getAttribute("y1")) / 100, parseFloat(line.getAttribute("y2")) / 100,
            Number(getComputedStyle(line).strokeOpacity)]);
    """
    return [tuple(line) for line in page.run(script)]


def test_dialogue_keeps_its_turns_until_it_begins_again(page):
    page.open("speaker")
    assert value(page, "system") == "Be kind"
    page.field("turns").send_keys("Hi <b>", Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: len(page.all(".turn")) == 2, "reply")
    assert words(page.answer(), ".print") == ["finish_reason: stop"]
    assert value(page, "turns") == ""
    page.fill(system="Be brief")
    page.ask(turns="And?")
    first = ["Hi <b>", "Be kind: Hi <b> #0"]
    assert dialogue(page) == [*first, "And?", f"Be brief: {'|'.join([*first, 'And?'])} #0"]
    assert words(page.one(".chat"), "small") == ["you", "model", "you", "model"]
    page.field("turns").send_keys("A draft")
    page.one(".another").send_keys(Keys.ENTER)
    page.wait(lambda: dialogue(page)[-1].endswith("#1"), "another reply")
    assert dialogue(page) == [*first, "And?", f"Be brief: {'|'.join([*first, 'And?'])} #1"]
    assert value(page, "turns") == "A draft"
    page.one(".restart").send_keys(Keys.ENTER)
    assert dialogue(page) == [] and value(page, "turns") == "" and page.one(".answer").text == ""
    assert value(page, "system") == "Be brief"
    assert page.ask().text == "Write a message first."


def dialogue(page: Page) -> list[str]:
    return shown(page.one(".chat"), ".turn p")


def test_message_is_not_sent_again_if_its_reply_was_empty(page, tmp_path):
    page.open("speaker")
    page.ask(turns="nothing")
    assert dialogue(page) == ["nothing", "(empty)"]
    page.ask(turns="Hi")
    assert dialogue(page)[2:] == ["Hi", "Be kind: Hi #0"]
    assert python_answer(page, tmp_path)["predictions"][0]["reply"] == "Be kind: Hi #0"


def test_message_stays_if_the_server_does_not_reply(page):
    page.open("speaker")
    said: list[str] = []
    for message, button in (("Hi", "main"), ("And?", "another")):
        page.browser.set_network_conditions(offline=True, latency=0, throughput=0)
        try:
            assert "does not answer" in page.ask(turns=message).text
        finally:
            page.browser.delete_network_conditions()
        assert value(page, "turns") == message and dialogue(page) == said
        page.one(f".signature[open] form .{button}").click()
        said += [message, f"Be kind: {'|'.join([*said, message])} #{len(said) // 2}"]
        page.answer()
        assert dialogue(page) == said


# The same call from a shell.


def test_curl_command_gives_the_same_answer_for_a_file_longer_than_an_argument(page, image):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(image)
    page.open("classifier")
    page.ask(image_bytes=image)
    command = page.one(".curl").text
    assert "base64 -w0" in command and len(command) < 400
    done = subprocess.run(["bash", "-c", command], cwd=image.parent, stdout=subprocess.PIPE)
    answer = json.loads(done.stdout)
    assert answer["predictions"][0]["classes"][0] == MARKUP


def test_curl_command_quotes_what_is_typed(page):
    page.open("reader")
    page.fill(question='Isn\'t "it" $HOME `ls` \\ !!', document="one\ntwo")
    command = page.one(".curl").text
    shown = subprocess.run(
        ["bash", "-c", f'curl() {{ printf %s "${{!#}}"; }}\n{command}'], stdout=subprocess.PIPE
    )
    assert json.loads(shown.stdout)["instances"] == [
        {"question": 'Isn\'t "it" $HOME `ls` \\ !!', "document": "one\ntwo"}
    ]


def test_curl_command_is_copied(page):
    page.open("tagger")
    page.browser.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    button = page.one(".copy")
    button.click()
    page.wait(lambda: button.text == "Copied", "copy")
    copied = page.browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == page.one(".curl").text


def python_answer(page: Page, folder: Path) -> dict:
    script = page.one(".signature[open] .python").text
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE)
    answer = ast.literal_eval(re.sub(r"\b(nan|inf)\b", r"'\1'", done.stdout.decode()))
    assert isinstance(answer, dict)
    return answer


def test_python_script_gives_the_same_answer(page, image):
    page.open("classifier")
    page.ask(image_bytes=image)
    answer = python_answer(page, image.parent)
    assert answer["predictions"][0]["classes"][0] == MARKUP
    page.open("reader")
    page.ask(question="true \"null\" \\ 'é'", document="one\ntwo")
    assert python_answer(page, image.parent)["predictions"][0]["answer"] == "330 metres"


def test_python_script_has_values_as_python_writes_them(page):
    page.open("scaler")
    page.fill(rows="[NaN, 1, -Infinity]", factor="2", exact="1152921504606846977")
    lines = page.one(".signature[open] .python").text.splitlines()
    request = next(line for line in lines if line.startswith("request = "))
    assert request == (
        'request = {"signature_name": "scale", "inputs": {"exact": 1152921504606846977, '
        '"factor": 2, "rows": [[float("nan"), 1, float("-inf")]]}}'
    )


def javascript_answer(page: Page, folder: Path) -> dict:
    module = page.one(".signature[open] .javascript").text
    (folder / "ask.mjs").write_text(module)
    command = [str(NODE), "ask.mjs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(not NODE, reason="needs the Debian package nodejs")
def test_javascript_module_gives_the_same_answer(page, image):
    page.open("classifier")
    page.ask(image_bytes=image)
    answer = javascript_answer(page, image.parent)
    assert answer["predictions"][0]["classes"][0] == MARKUP
    page.open("reader")
    page.ask(question="true \"null\" \\ 'é'", document="one\ntwo")
    assert javascript_answer(page, image.parent)["predictions"][0]["answer"] == "330 metres"


def test_javascript_module_keeps_numbers_that_are_none_of_its_own(page):
    page.open("scaler")
    page.fill(rows="[NaN, 1, -Infinity]", factor="2", exact="1152921504606846977")
    first, *_ = page.one(".signature[open] .javascript").text.splitlines()
    text = json.loads(first.removeprefix("const body = ").removesuffix(";"))
    assert '"exact": 1152921504606846977' in text and "[NaN, 1, -Infinity]" in text
    page.fill(rows="[0, 1, 2]", exact="7")
    first, *_ = page.one(".signature[open] .javascript").text.splitlines()
    assert first.startswith('const body = JSON.stringify({"signature_name": "scale"')


def test_report_and_card_are_linked_where_they_are(page, models):
    (models / "classifier" / "report.html").write_text("<p>A report</p>")
    (models / "classifier" / "1" / "assets.extra" / "model_card.md").write_text("# A card")
    page.browser.refresh()
    page.open("classifier")
    links = page.wait(lambda: page.all(".pages a"), "links")
    texts = [urllib.request.urlopen(link.get_property("href")).read() for link in links]
    assert texts == [b"<p>A report</p>", b"# A card"]
    page.open("tagger")
    page.wait(lambda: not page.all(".pages a"), "no links")


# Examples of the version.


def test_an_example_is_filled_in_and_answered(page, tmp_path):
    page.open("classifier")
    page.one(".example").click()
    answer = page.answer()
    assert MARKUP in answer.text
    page.wait(lambda: "4 \N{MULTIPLICATION SIGN} 4 pixels" in page.one(".previews").text, "size")
    expected = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    assert base64.b64encode(expected).decode() in page.one(".curl").text
    assert python_answer(page, tmp_path)["predictions"][0]["classes"][0] == MARKUP


def test_examples_follow_each_other_and_begin_again(page):
    page.open("scaler")
    for signature in page.all(".signature"):
        signature.find_element("css selector", "summary").click()
    texts = []
    for _ in range(4):
        page.one(".signature[open] .example").click()
        before = texts[-1:]
        value = page.wait(
            lambda before=before: (
                now if [now := page.field("text").get_property("value")] != before else None
            ),
            "next example",
        )
        texts.append(value)
        page.answer()
    assert texts == ["Ada", "«Ö».\n", "x", "Ada"]


def test_an_example_of_numbers_stays_exact(page):
    page.open("scaler")
    page.one(".signature[open] .example").click()
    page.answer()
    assert page.field("exact").get_property("value") == str(2**60 + 1)
    assert page.field("rows").get_property("value") == "[1,2.5,NaN]"


def test_a_version_without_warmup_requests_offers_no_example(page):
    page.open("tagger")
    assert not page.all(".example")


# Errors.


def test_refused_image_is_reported_in_the_servers_words(page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.open("classifier")
    answer = page.ask(image_bytes=broken)
    (problem,) = words(answer, "[role=alert]")
    assert problem.startswith("The server did not accept this request.\n")
    assert len(problem.split("\n")[1]) > 20


def test_missing_file_is_reported_without_a_request(page):
    page.open("classifier")
    assert page.ask().text == "Choose a file for image_bytes."


@pytest.mark.parametrize(
    "values, message",
    [
        ({"factor": "two"}, "Größe (cm) must be a number, not “two”."),
        ({"exact": "1.5"}, "exact must be a whole number, not “1.5”."),
        ({"rows": "[[1, 2"}, "rows is not valid JSON"),
        ({"rows": '["one"]'}, "The server did not accept this request."),
    ],
)
def test_wrong_number_is_reported(page, values, message):
    page.open("scaler")
    assert page.ask(**values).text.startswith(message)


def test_server_that_is_gone_is_reported_and_found_again(page):
    page.open("tagger")
    page.fill(text="kept")
    offline = {"offline": True, "latency": 0, "throughput": 0}
    page.browser.set_network_conditions(**offline)
    try:
        assert page.ask().text == "The server does not answer. Is it still running?"
        page.wait(lambda: "may be out of date" in page.one("#connection").text, "warning")
    finally:
        page.browser.delete_network_conditions()
    page.wait(lambda: page.one("#connection").text == "", "connection")
    assert page.field("text").get_attribute("value") == "kept"


# People, screens and time.


def test_keyboard_alone_is_enough(page):
    page.open("tagger")
    page.field("text").send_keys("Ada Lovelace", Keys.CONTROL, Keys.ENTER)
    assert words(page.answer(), "mark")
    seen = set()
    for _ in range(30):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        active = page.browser.switch_to.active_element
        seen.add((active.tag_name, active.text.split("\n")[0]))
    assert {("a", "detector"), ("textarea", ""), ("button", "Ask"), ("button", "Copy")} <= seen


@pytest.mark.parametrize(
    "model",
    ["classifier", "detector", "reader", "scaler", "speaker", "translator", "writer"],
)
def test_narrow_screen_needs_no_sideways_scrolling(page, image, model):
    metrics = {"width": 340, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open(model)
        values = {"translator": {"text": "eins zwei"}, "speaker": {"turns": "Hello"}}
        if model in ("classifier", "detector"):
            values[model] = {"image_bytes": image}
        page.ask(**values.get(model, {}))
        assert page.run("return document.documentElement.scrollWidth") <= 340
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
def test_colours_follow_the_system(page, scheme, dark):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        page.open("classifier")
        colours = page.run(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        ink, paper = (int(re.findall(r"\d+", colour)[0]) for colour in colours)
        assert (ink > paper) == dark
    finally:
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_version_that_does_not_load_is_reported(page, models):
    page.open("painter")
    (models / "broken").mkdir()
    (models / "broken" / "saved_model.pb").write_bytes(b"no model")
    (models / "broken").rename(models / "painter" / "2")
    about = page.one("#about")
    page.wait(lambda: "failed" in about.text, "failed version")
    assert "version 1\nanswers" in about.text.replace(" answers", "\nanswers")
    assert page.one("nav a[href='#painter']").text.endswith("version 1")


def test_new_version_appears_and_what_is_typed_stays(page, models, image):
    page.open("classifier")
    page.ask(image_bytes=image)
    save_classifier(models / "new")
    (models / "new").rename(models / "classifier" / "2")
    page.wait(lambda: "version 2" in page.one("nav a").text, "version 2")
    assert page.all(".bars") and "it's a $white image.png" in page.one(".drop").text
    link = "#about a[href='#classifier/1']"
    page.wait(lambda: page.one(link).click() or True, "link to version 1")
    page.wait(lambda: "Requests go to version 1" in page.one("#about").text, "version 1")
    address = "/v1/models/classifier/versions/1:predict"
    page.wait(lambda: address in page.one(".curl").text, address)


def test_form_has_the_settings_of_a_new_version(page, models):
    page.open("writer")
    new = shutil.copytree(models / "writer" / "1", models / "new")
    path = new / "assets.extra" / "model_card.json"
    settings = {**json.loads(path.read_text())["config"], "temperature": 0.3}
    path.write_text(json.dumps({"config": settings}))
    new.rename(models / "writer" / "2")
    page.wait(lambda: value(page, "temperature") == "0.3", "temperature of version 2")
