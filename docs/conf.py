"""The site: `npm install --prefix docs && sphinx-build -W docs site`, then open site/index.html."""

import base64
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import jupytext
import sphinxcontrib.katex

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]

import tinymeta  # noqa: E402
from tinymeta import course  # noqa: E402

project = "tinymeta"
author = "the tinymeta developers"
copyright = "the tinymeta developers. Code MIT, prose CC-BY-4.0"
release = version = tinymeta.__version__
extensions = ["myst_nb", "sphinxcontrib.katex", "annotate", "reference"]
exclude_patterns = ["conf.py", "node_modules", "_ext", "_static", "_made", "guides/*.py", "lessons/about.md"]

html_theme = "furo"
html_title = "tinymeta"
html_static_path = ["_static", "_made"]
html_css_files = ["tinymeta.css"]
html_show_search_summary = False  # the summaries would be fetched, which a page that was opened from a disk may not
html_show_sourcelink = False
html_copy_source = False
toc_object_entries_show_parents = "hide"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
html_theme_options = {"navigation_with_keys": True}
suppress_warnings = ["myst.header"]  # a lesson's or a docstring's headings begin where they begin

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
myst_update_mathjax = False

# ## Lessons are executed when the site is built
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
os.environ["TINYMETA_FIGURES"] = tempfile.mkdtemp()
os.environ["PYTHONPATH"] = str(ROOT)

# ## Formulas are rendered when the site is built, and one that is wrong ends it
katex_prerender = True
katex_css_path = "katex/katex.min.css"
sphinxcontrib.katex.KATEX_DEFAULT_OPTIONS = {"throwOnError": True, "strict": "error"}
sphinxcontrib.katex.STARTUP_TIMEOUT = sphinxcontrib.katex.RENDER_TIMEOUT = 60.0

# ## What is made from the sources
DERIVATIONS = {
    "engine": ["autodiff/" + name for name in (
        "tensor", "operations/elementwise", "operations/special", "operations/functions", "operations/reductions", "operations/shapes",
        "operations/indexing", "operations/products", "operations/linear_algebra", "reverse", "derivatives", "blocks", "tree", "layout",
        "check", "view")],
    "meta_gradients": ["bilevel", "maml", "implicit", "minima", "curvature", "solvers", "roots", "learned_optimizer", "optim", "evolution",
                       "baselines", "comparison", "nn"],
    "machine": ["machine/" + name for name in (
        "trace", "code", "passes", "blocks", "association", "fusion", "costs", "lowerings", "lower", "checks", "program", "listing",
        "source", "execute", "launch", "threads", "team", "interpreter", "kernels", "vectors", "elementary", "moves", "products", "maps",
        "elimination", "twins", "compiling", "debugging")],
}  # fmt: skip


def lessons():
    """A copy of each lesson, with a link to its notebook, which is in the link: browsers don't download from a disk."""
    for path in sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py")):
        lesson = jupytext.read(path, fmt="py:percent")
        notebook = base64.b64encode(course.notebook(path, solved=True).encode()).decode()
        link = (f'<a class="download" download="{path.stem}.ipynb" href="data:application/x-ipynb+json;base64,{notebook}">'
                "Download this lesson as a notebook</a>")  # fmt: skip
        first = lesson.cells[0]
        first.source = re.sub(r"\n", f"\n\n{link}\n", first.source, count=1)
        _write(HERE / "lessons" / path.name, jupytext.writes(lesson, fmt="py:percent"))
    about = re.findall(r"^(\d+)\. \[`(\d\d_\w+)\.py`\]\(.*?\): (.*)", (ROOT / "README.md").read_text(encoding="utf8"), flags=re.MULTILINE)
    _write(HERE / "lessons" / "about.md", "".join(f"{number}. [](/lessons/{name}.py): {text}\n" for number, name, text in about))


def derivations():
    """A page for each module, with prose and code beside each other."""
    for part, names in DERIVATIONS.items():
        for name in names:
            heading = re.search(r'^r?"""\n?#? ?(.*?)[.:]?(?:"""|\n|\. )', (ROOT / "tinymeta" / f"{name}.py").read_text(encoding="utf8"))[1]
            page = f"# {heading}\n\n`tinymeta/{name}.py`\n\n```{{annotate}} ../../../tinymeta/{name}.py\n```\n"
            _write(HERE / "derivations" / part / f"{name.replace('/', '_')}.md", page)


def formulas():
    """KaTeX's style and fonts, as npm has brought them."""
    source, target = HERE / "node_modules" / "katex" / "dist", HERE / "_made" / "katex"
    if not source.is_dir():
        raise RuntimeError("KaTeX's fonts aren't there: `npm install --prefix docs` brings them")
    (target / "fonts").mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "katex.min.css", target)
    for font in (source / "fonts").glob("*.woff2"):
        shutil.copy(font, target / "fonts")


def _write(path, text):
    """Only if it's another one: Sphinx builds anew what is newer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf8") != text:
        path.write_text(text, encoding="utf8")


lessons()
derivations()
formulas()
