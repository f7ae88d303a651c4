"""The site in a browser, as it lies on the disk: `sphinx-build -W docs site`, then this, with Chromium."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("TINYMETA_SITE", ROOT / "site")).resolve()
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
LESSONS = sorted(path.stem for path in (ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
MODULES = [page for page in PAGES if re.match(r"derivations/.*/", page)]
KINDS = ["index.html", f"lessons/{LESSONS[5]}.html", "derivations/meta_gradients/maml.html", "api/engine.html", "guides/symbols.html",
         "results.html", "course/index.html", "search.html"]  # fmt: skip
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
ALONE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        started = playwright.chromium.launch(executable_path=found, args=ALONE)
        yield started
        started.close()


class Visit:
    """A page that is open, and what went wrong or was asked for meanwhile."""

    def __init__(self, browser, name, viewport=WIDE, scheme="light"):
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((SITE / name).as_uri() if "?" not in name else SITE.as_uri() + "/" + name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.page.close()


def test_there_is_a_page_for_all_that_is_promised():
    assert {f"lessons/{lesson}.html" for lesson in LESSONS} <= set(PAGES) and set(KINDS) <= set(PAGES)
    assert len(MODULES) > 50


# What is left of formulas outside of code, were they not rendered.
RAW = r"""() => {
    const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
    const left = [];
    while (walker.nextNode()) {
        const inside = walker.currentNode.parentElement.closest("pre, code, .katex, script, style");
        if (!inside && /\$|\\[a-zA-Z(\[]{2,}/.test(walker.currentNode.data)) left.push(walker.currentNode.data);
    }
    return left;
}"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_asks_nobody_for_anything(browser, name):
    with Visit(browser, name) as visit:
        assert visit.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in visit.requests)
        assert visit.page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
        assert visit.page.evaluate(RAW) == [] and visit.page.locator(".katex-error").count() == 0


@pytest.mark.parametrize("name", [f"lessons/{LESSONS[4]}.html", "derivations/meta_gradients/implicit.html"])
def test_formulas_have_their_fonts(browser, name):
    with Visit(browser, name) as visit:
        assert visit.page.locator(".katex").count() > 20
        fonts = "document.fonts.ready.then(() => [...document.fonts].filter(f => f.status == 'loaded' && /KaTeX/.test(f.family)).length)"
        assert visit.page.evaluate(fonts) > 0


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_wider_than_a_phone(browser, name):
    with Visit(browser, name, PHONE) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("viewport, columns", [(WIDE, 2), (PHONE, 1)])
def test_prose_stands_beside_code_where_there_is_room(browser, viewport, columns):
    with Visit(browser, "derivations/meta_gradients/implicit.html", viewport) as visit:
        row = visit.page.locator(".annotated .row").nth(1)
        prose, code = (row.locator(part).bounding_box() for part in (".note", ".code"))
        beside = code["x"] >= prose["x"] + prose["width"] and abs(code["y"] - prose["y"]) < 40
        below = code["y"] >= prose["y"] + prose["height"] and code["x"] == prose["x"]
        assert (beside, below) == (columns == 2, columns == 1)


# By WCAG 2: the contrast of two colours of luminance L >= l is (L + 0.05) / (l + 0.05); 4.5 is readable.
CONTRAST = r"""() => {
    const numbers = text => text.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const color = numbers(getComputedStyle(element).backgroundColor);
            if (color.length < 4 || color[3] > 0.5) return color;
        }
        return [255, 255, 255];
    };
    const poor = new Map();
    for (const element of document.querySelectorAll("article *, .sidebar-tree a, .toc-tree a")) {
        const text = [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim());
        if (!text || !element.checkVisibility() || element.closest(".katex-mathml, .headerlink, .linenos")) continue;
        const [l, L] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => a - b);
        const contrast = (L + 0.05) / (l + 0.05);
        if (contrast < 4.5) poor.set(`${element.tagName}.${element.className} ${getComputedStyle(element).color}`, contrast.toFixed(2));
    }
    return [...poor];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_everything_is_readable_by_day_and_by_night(browser, name, scheme):
    with Visit(browser, name, scheme=scheme) as visit:
        background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 384) == (scheme == "light")
        assert visit.page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("words, expected", [("proximal", "implicit"), ("second_derivative_products", "bilevel"), ("Rajeswaran", "results"),
                                             ("softmax", "03_arrays")])  # fmt: skip
def test_words_of_prose_and_of_code_are_found(browser, words, expected):
    with Visit(browser, f"search.html?q={words}") as visit:
        visit.page.wait_for_selector("#search-results li a")
        assert any(expected in link for link in visit.page.eval_on_selector_all("#search-results li a", "links => links.map(a => a.href)"))
        assert visit.complaints == []


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_can_be_taken_home(browser, lesson):
    with Visit(browser, f"lessons/{lesson}.html") as visit:
        with visit.page.expect_download() as download:
            visit.page.click("a.download")
        cells = json.loads(Path(download.value.path()).read_text(encoding="utf8"))["cells"]
        assert download.value.suggested_filename == f"{lesson}.ipynb" and len(cells) > 10
        assert visit.page.locator("article img").count() >= 1 and visit.page.locator(".cell_output").count() > 5


def test_links_lead_somewhere():
    texts = {name: (SITE / name).read_text(encoding="utf8") for name in PAGES}
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    for name, text in texts.items():
        for link in re.findall(r'<a [^>]*href="([^"]*)"', text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = os.path.relpath((SITE / name).parent.joinpath(path or Path(name).name).resolve(), SITE)
            assert (SITE / target).is_file(), (name, link)
            assert not anchor or target not in anchors or anchor in anchors[target], (name, link)
