"""The page in headless Chromium: its drawings, its sorting, its filter, its width on a phone."""

import shutil
import time

import pytest
from synthetic_run import write_run

from kdlab.report import records
from kdlab.report.page import page

pytestmark = pytest.mark.browser
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def show(browser, outputs, width=1400):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    path = outputs / "page.html"
    path.write_text(page(records(outputs), "test/accuracy", "title", "here"))
    browser.get(path.as_uri())
    time.sleep(0.3)
    assert browser.get_log("browser") == []


def texts(browser, css):
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.textContent)"
    )
    return browser.execute_script(script, css)


def find(browser, css):
    return browser.find_element("css selector", css)


def test_drawings_are_there(browser, sweep):
    show(browser, sweep)
    assert len(texts(browser, "#heat td b")) == 12
    assert texts(browser, ".facet h3") == ["freeze gradual", "freeze none"]
    assert len(texts(browser, "#curves polyline")) == 25
    assert "teacher" in texts(browser, "#scatter svg text")
    assert any(told.startswith("no teacher 0.8") for told in texts(browser, "#heat svg text"))
    browser.execute_script(
        "const rows = document.querySelector('select[name=rows]'); rows.value = 'choice.freeze';"
        "rows.dispatchEvent(new Event('change'))"
    )
    assert texts(browser, ".facet h3") == ["alpha 0.5", "alpha 0.9"]


def test_tooltip_gives_every_seed(browser, sweep):
    from selenium.webdriver import ActionChains

    show(browser, sweep)
    cell = find(browser, "#heat td")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    ActionChains(browser).move_to_element(cell).perform()
    told = find(browser, "#tip").text
    assert "seed 1: " in told
    assert "n = 2" in told


def test_a_click_sorts_both_ways_with_the_empty_last(browser, sweep):
    show(browser, sweep)
    column = 1 + texts(browser, "#runs th").index("test/accuracy")
    button = find(browser, f"#runs th:nth-child({column}) button")
    for reverse in (True, False):
        browser.execute_script("arguments[0].click()", button)
        cells = texts(browser, f"#runs td:nth-child({column})")
        assert cells[:24] == sorted(cells[:24], reverse=reverse)
        assert cells[24:] == ["–", "–"]


def test_filter_and_states(browser, sweep):
    show(browser, sweep)
    find(browser, "#filter").send_keys("temperature=4 seed=1")
    assert texts(browser, "#shown") == ["5 of 26 runs"]
    ids = texts(browser, "#runs tbody code")
    assert ids
    assert all("-t4-" in name and "-s1-" in name for name in ids)
    find(browser, "#filter").clear()
    browser.execute_script("document.querySelector('.chip input[value=finished]').click()")
    assert sorted(texts(browser, "#runs tbody .state")) == ["failed", "interrupted"]


def test_no_sideways_scrolling_on_a_phone(browser, sweep):
    show(browser, sweep, 390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_hostile_names_and_a_lone_run_draw_without_error(browser, tmp_path):
    evil = "</script><img src=x onerror=\"document.title='owned'\">"
    write_run(
        tmp_path, "distill", "a", {"choice": {"freeze": evil}, "seed": 1}, {"test/accuracy": 0.5, evil: 1.0}, group=evil
    )
    write_run(
        tmp_path, "distill", "b", {"choice": {"freeze": "x"}, "seed": 1}, {"test/accuracy": 0.5}, [{"step": 1, evil: 1}]
    )
    show(browser, tmp_path)
    assert browser.title == "title"
    assert texts(browser, "img") == []
