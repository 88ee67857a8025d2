"""The page on which a reader draws a digit: its arithmetic, and what a hand, a key or a finger
does."""

import numpy as np
import pytest
import torch

import pruning
from pruning.pages import network


def rebuilt(record):
    """The recorded network as the package runs it, from the record alone."""
    model = pruning.models.mlp(record["widths"], record["activation"]).eval()
    layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, bias in zip(layers, record["bias_values"], strict=True):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))
        for level, source, target, weight in record["connections"]:
            layers[level].weight[target, source] = weight
    return model


def drag(page, points):
    box = page.locator("[data-play=pad]").bounding_box()
    on_screen = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points
    ]
    page.mouse.move(*on_screen[0])
    page.mouse.down()
    for point in on_screen[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()


SEVEN = [(0.25, 0.2), (0.7, 0.2), (0.45, 0.85)]
ONE = [(0.5, 0.15), (0.5, 0.85)]


def test_outputs_are_the_packages_on_fifty_test_images(look, mnist):
    page = look("network")
    images = mnist.test.inputs[:50]
    records = network.recorded()
    seen = page.evaluate(
        "([images, networks]) => [...Array(networks).keys()].map((index) =>"
        " images.map((image) => window.playNetwork.outputs(image, index)))",
        [images.double().tolist(), len(records)],
    )
    for record, outputs in zip(records, seen, strict=True):
        with torch.no_grad():
            expected = rebuilt(record)(images)
        assert len(outputs) == 50
        torch.testing.assert_close(torch.tensor(outputs), expected, rtol=0, atol=1e-4)


def test_recorded_accuracy_is_what_the_rebuilt_network_reaches(mnist):
    record = network.recorded()[0]
    with torch.no_grad():
        right = rebuilt(record)(mnist.test.inputs).argmax(1) == mnist.test.targets
    assert right.double().mean().item() == pytest.approx(record["test_accuracy"], abs=1e-4)


def test_drawing_with_the_mouse_changes_the_answer(look):
    page = look("network")
    said = page.locator("[data-play=said]")
    page.locator("[data-play=clear]").click()
    assert said.text_content() == "Nothing is drawn yet."
    drag(page, SEVEN)
    assert "says 7" in said.text_content()
    page.locator("[data-play=clear]").click()
    drag(page, ONE)
    assert "says 1" in said.text_content()


def test_a_drawing_has_mnists_size_and_centre(look):
    page = look("network")
    page.locator("[data-play=clear]").click()
    drag(page, [(0.1, 0.1), (0.3, 0.1), (0.3, 0.5)])  # small, in a corner
    pixels = np.array(page.evaluate("window.playNetwork.pixels()")).reshape(28, 28)
    rows, columns = np.nonzero(pixels > 0.5)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(20, abs=1)
    places = np.arange(28) + 0.5
    assert pixels.sum(1) @ places / pixels.sum() == pytest.approx(14, abs=0.1)
    assert pixels.sum(0) @ places / pixels.sum() == pytest.approx(14, abs=0.1)


def test_the_slider_takes_weights_away(look):
    page = look("network")
    slider, lines = page.locator("#play-weights"), page.locator(".play-edges path")
    for record in network.recorded():
        assert lines.count() == record["kept"]
        assert slider.get_attribute("aria-valuetext") == f"{record['kept']} weights"
        assert page.locator(".play-grid rect.read").count() == len(
            {source for level, source, _, _ in record["connections"] if level == 0}
        )
        slider.focus()
        page.keyboard.press("ArrowRight")


def test_the_keyboard_draws_too(look):
    page = look("network")
    page.locator("[data-play=pad]").focus()
    page.keyboard.press("Delete")
    for key in ["ArrowUp"] * 9 + [" "] + ["ArrowDown"] * 18 + [" "]:
        page.keyboard.press(key)
    assert "says 1" in page.locator("[data-play=said]").text_content()


def test_a_finger_draws_without_scrolling_the_page(look):
    page = look("network", 390, has_touch=True)
    page.locator("[data-play=pad]").scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    box = page.locator("[data-play=pad]").bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, (x, y) in zip(["Start", "Move", "Move"], SEVEN, strict=True):
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        session.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": [point]}
        )
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert "says 7" in page.locator("[data-play=said]").text_content()
    assert page.evaluate("scrollY") == before


def test_a_test_image_at_a_click(look, mnist):
    page = look("network")
    buttons = page.locator("[data-play=samples] button")
    assert buttons.count() == 10
    buttons.nth(7).click()
    first = mnist.test.inputs[(mnist.test.targets == 7).nonzero()[0, 0]]
    assert page.evaluate("window.playNetwork.pixels()") == pytest.approx(
        first.tolist(), abs=1e-6
    )


def test_without_mnist_the_page_says_so(chromium, html, monkeypatch):
    monkeypatch.setattr(network.datasets, "locate", lambda file: None)
    assert network.samples() == []
    page = chromium.new_page()
    script = (html / network.DATA).read_text() + "window.prunedNetworks.samples = [];"
    page.route("**/network_data.js", lambda route: route.fulfill(body=script))
    page.goto((html / "network.html").as_uri())
    assert page.locator("[data-play=no-samples]").is_visible()
    assert page.locator("[data-play=said]").text_content() == "Nothing is drawn yet."
    page.close()
