"""The page, used in a browser against a real server."""

import json
import math
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import FilePayload, expect

from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer, wait_for
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]


def written(running: RunningServer, prompt: str, symbols: int, seed: int = 7) -> str:
    """What a gRPC client gets."""
    options = GenerateOptions(max_new_symbols=symbols, seed=seed, temperature=0.75)
    with running.client() as client:
        return prompt + client.generate(prompt, options).text


def test_text_is_that_of_a_grpc_client(opened: Opened, server: RunningServer) -> None:
    opened.settle(length=150, temperature=0.75, seed=7)
    opened.write("abc")
    assert opened.text == written(server, "abc", 150)
    assert opened.page.locator(".line").count() > 1
    seen = "".join(opened.page.locator(".line").all_text_contents())
    assert seen == opened.text.replace("\n", "")


def test_stopped_text_goes_on_as_if_it_had_not_been(opened: Opened, server: RunningServer) -> None:
    opened.settle(temperature=0.75, seed=7)
    opened.begin_long("abc")
    opened.button("Stop").click()
    opened.wait()
    wait_for(lambda: not server.sequences())
    stopped = opened.symbols
    assert 3 < stopped < 65539
    opened.settle(length=50, seed="")
    opened.write()
    assert opened.symbols == stopped + 50
    assert opened.text == written(server, "abc", stopped + 47)


def test_branch_inside_a_text_is_what_a_grpc_client_gets_there(
    opened: Opened, server: RunningServer
) -> None:
    opened.settle(length=200, temperature=0.75, seed=7)
    opened.write("abc")
    first = opened.text
    opened.go_back(67)
    opened.settle(seed=8, length=30)
    opened.write()
    assert opened.text == written(server, first[:-67], 30, seed=8)
    opened.tab("Branches")
    expect(opened.page.locator(".tree li")).to_have_count(2)
    opened.button("Compare").click()
    parted = next(at for at, (a, b) in enumerate(zip(first, opened.text, strict=False)) if a != b)
    expect(opened.page.locator(".comparison")).to_contain_text(f"part after {parted} symbols")
    opened.page.locator(".tree .open").first.click()
    assert opened.text == first


def test_several_seeds_come_side_by_side(opened: Opened, server: RunningServer) -> None:
    opened.settle(length=40, temperature=0.75, seed=7, seeds_side_by_side=3)
    opened.write("abc")
    samples = opened.page.locator(".sample")
    expect(samples).to_have_count(3)
    for index in range(3):
        samples.nth(index).click()
        assert opened.text == written(server, "abc", 40, seed=7 + index)


def test_undo_takes_back_and_deleting_keeps_what_others_share(opened: Opened) -> None:
    opened.settle(length=40, seed=7)
    opened.write("abc")
    first = opened.text
    opened.go_back(20)
    opened.settle(seed=8)
    opened.write()
    opened.button("Undo").click()
    assert opened.text == first
    opened.settle(seed=9)
    opened.write()
    branch = opened.text
    opened.tab("Branches")
    opened.page.locator(
        ".tree li", has=opened.page.locator(".open[aria-current=false]")
    ).get_by_role("button", name="Delete").click()
    expect(opened.page.locator(".tree li")).to_have_count(1)
    assert opened.text == branch


def test_link_writes_the_same_text_in_another_browser(
    opened: Opened, opened_at: Open, server: RunningServer
) -> None:
    opened.settle(length=60, temperature=0.75, seed=7)
    opened.write("abc")
    opened.go_back(31)
    opened.settle(seed=9)
    opened.write("fed")
    expect(opened.page).to_have_url(re.compile("fed"))
    other = opened_at(opened.page.url)
    expect(other.pane).to_have_attribute("data-symbols", str(opened.symbols))
    other.wait()
    assert other.text == opened.text
    assert other.text == written(server, opened.text[:35], 60, seed=9)
    assert other.log_probs == opened.log_probs


def test_link_of_another_fingerprint_is_told(opened: Opened, server: RunningServer) -> None:
    recipe = {
        "v": 1,
        "model": "gone",
        "fingerprint": "ab" * 32,
        "steps": [{"text": "abc"}, {"write": 20, "seed": "7", "sampling": {"temperature": 0.75}}],
    }
    page = opened.at(quote(json.dumps(recipe)))
    expect(page.notice).to_contain_text("gone, abababababab…, which this server does not have")
    assert page.text == ""
    page.button("Write it with small").click()
    expect(page.pane).to_have_attribute("data-symbols", "23")
    page.wait()
    assert page.text == written(server, "abc", 20)


@pytest.mark.parametrize(
    "fragment", ["%", "nonsense", quote('{"v": 2}'), quote('{"v": 1, "model": "", "steps": [7]}')]
)
def test_link_that_is_broken_is_told(opened: Opened, fragment: str) -> None:
    page = opened.at(fragment)
    expect(page.notice).to_have_text(re.compile("^This link is broken: no text can be read"))
    expect(page.notice).not_to_contain_text(re.compile("JSON|URI|form"))
    page.settle(length=20, seed=7)
    page.write("abc")
    assert page.symbols == 23


def test_surprise_is_that_of_score(opened: Opened, server: RunningServer) -> None:
    opened.settle(length=50, seed=7)
    opened.write("abc")
    opened.field.fill("hag\r\nbed £")
    opened.button("Add").click()
    expect(opened.pane).to_have_attribute("data-symbols", str(53 + 9))
    with server.client() as client:
        score = client.score(opened.text)
    assert opened.text.endswith("hag\nbed £")
    assert opened.log_probs == pytest.approx(list(score.log_probs), rel=1e-6)
    opened.tab("Surprise")
    shown = float(opened.page.locator("aside .figure b").inner_text())
    assert shown == pytest.approx(score.bits_per_character, abs=0.0006)
    rows = opened.page.locator("aside tbody td:last-child").all_inner_texts()
    counts = [0] * 11
    for each in score.log_probs:
        counts[min(int(-each / math.log(2)), 10)] += 1
    assert [int(row) for row in rows] == counts


def test_selection_has_bits_of_its_own(opened: Opened, server: RunningServer) -> None:
    opened.settle(length=50, seed=7)
    opened.write("abc")
    opened.go_back(0)
    for _ in range(10):
        opened.page.keyboard.press("Shift+ArrowLeft")
    own = opened.log_probs[-10:]
    bits = -sum(own) / 10 / math.log(2)
    expect(opened.page.locator(".status")).to_contain_text(f"{bits:.2f} bits per character of 10")


def test_errors_are_told_in_the_servers_words(opened: Opened) -> None:
    opened.field.fill("abc§")
    opened.page.keyboard.press("Enter")
    expect(opened.notice).to_contain_text("UNKNOWN_SYMBOL")
    expect(opened.notice).to_contain_text("'§'")
    assert opened.text == ""
    opened.settle(temperature=5000)
    opened.field.fill("")
    opened.button("Write").click()
    expect(opened.notice).to_contain_text("Temperature: must be 0 or 0.001")
    expect(opened.notice).not_to_contain_text("sampling")
    opened.settle(temperature="", length="1.5")
    opened.button("Write").click()
    expect(opened.notice).to_contain_text("Length: must be a whole number, got 1.5")


def test_stop_string_ends_a_text_before_it(opened: Opened, server: RunningServer) -> None:
    whole = written(server, "abc", 200)
    stop = whole[60:63]
    end = whole.index(stop, 3)
    opened.settle(length=200, temperature=0.75, seed=7, stop_before=stop.replace("\n", "\\n"))
    opened.write("abc")
    assert opened.text == whole[:end]
    opened.settle(stop_before="", length=20, seed="")
    opened.write()
    assert opened.text == whole[: end + 20]


def test_tree_outlives_the_page_and_travels_as_a_file(opened: Opened, opened_at: Open) -> None:
    opened.settle(length=60, seed=7)
    opened.write("abc")
    opened.go_back(31)
    opened.write("fed")
    text, log_probs = opened.text, opened.log_probs
    opened.reload()
    expect(opened.pane).to_have_attribute("data-symbols", str(len(text)))
    assert opened.text == text
    assert opened.log_probs == pytest.approx(log_probs, rel=1e-6)
    opened.tab("Branches")
    with opened.page.expect_download() as download:
        opened.button("Export").click()
    other = opened_at(opened.server)
    other.tab("Branches")
    other.page.locator("input[type=file]").set_input_files(download.value.path())
    expect(other.page.locator(".tree li")).to_have_count(2)
    assert other.text == text
    wrong: FilePayload = {"name": "no.json", "mimeType": "", "buffer": b'{"version": 2}'}
    other.page.locator("input[type=file]").set_input_files(wrong)
    expect(other.notice).to_contain_text("no.json cannot be read")


def test_text_is_kept_as_a_session_of_the_server(opened: Opened, server: RunningServer) -> None:
    opened.settle(length=40, temperature=0.75, seed=7)
    opened.write("abc")
    opened.tab("Branches")
    opened.button("Keep on server").click()
    name = opened.page.locator(".tree code").inner_text()
    with server.client() as client:
        session = client.get_session(name)
        assert session.position == 43
        on = session.generate("", GenerateOptions(max_new_symbols=20)).text
    assert opened.text + on == written(server, "abc", 60)
    opened.button("End session").click()
    expect(opened.page.locator(".tree code")).to_have_count(0)


def test_tabs_of_one_browser_share_their_texts(opened: Opened) -> None:
    opened.settle(length=40, seed=7)
    opened.write("abc")
    kept = "localStorage.getItem('unroll.tree')?.includes('abc') ?? false"
    wait_for(lambda: opened.page.evaluate(kept))
    other = Opened(opened.page.context.new_page(), opened.server)
    assert other.text == opened.text
    other.tab("Branches")
    other.button("New text").click()
    other.write("fed")
    opened.tab("Branches")
    texts = opened.page.locator(".tree li")
    expect(texts).to_have_count(2)
    opened.page.once("dialog", lambda dialog: dialog.accept("the second"))
    texts.nth(1).get_by_role("button", name="Name").click()
    expect(texts.nth(1).locator("b")).to_have_text("the second")
    texts.nth(0).get_by_role("button", name="Delete").click()
    expect(texts).to_have_count(1)
    opened.reload()
    opened.tab("Branches")
    expect(texts).to_have_count(1)
    assert opened.text == other.text
    other.check()
    other.page.close()


def test_server_and_its_models_are_described(opened: Opened, server: RunningServer) -> None:
    opened.tab("Server")
    panel = opened.page.get_by_role("complementary")
    expect(panel).to_contain_text("ready")
    expect(panel).to_contain_text("nothing has been written yet")
    opened.write("abc")
    expect(panel).to_contain_text(re.compile(r"first symbols after \d+ ms"))
    with server.client() as client:
        for model in client.list_models():
            card = panel.locator(".model-card", has=opened.page.get_by_text(model.name, exact=True))
            expect(card).to_contain_text(f"{model.cell}, 3 × 7")
            expect(card).to_contain_text(model.fingerprint[:16])
