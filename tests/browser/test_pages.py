"""Every page of the book in a real browser, as a phone, a tablet and a desk see it."""

import pytest

WIDTHS = [390, 768, 1400]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_menus_open(look, width, which):
    page = look("chapters/compression_curves", width)
    menu = page.locator(f"#pst-{which}-sidebar, #pst-{which}-sidebar-modal")
    links = menu.locator("nav a")
    button = page.locator(f".{which}-toggle").locator("visible=true")
    if width < 1000:
        assert not links.first.is_visible()
        button.click()
    links.first.wait_for(state="visible")
    box = links.nth(1).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    before = page.url
    links.nth(1).click()
    page.wait_for_function("before => location.href !== before", arg=before)


def test_the_chapters_can_be_put_away_on_a_wide_screen(look):
    page = look("chapters/compression_curves", 1400)
    chapters = page.locator("#pst-primary-sidebar nav a").first
    page.locator(".primary-toggle").click()
    chapters.wait_for(state="hidden")
    page.locator(".primary-toggle").click()
    chapters.wait_for(state="visible")
