"""The documentation as it is built: no warning, no dead link, and no page that a browser stumbles over."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
SOURCES = os.path.join(ROOT, "docs")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not os.path.isdir(SOURCES), reason="an installed package has no documentation")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the documentation as HTML. Its sources are copied, for building writes beside them."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("docs", "benchmarks/results", "examples"):
        shutil.copytree(
            os.path.join(ROOT, name), folder / name, ignore=shutil.ignore_patterns("generated", "__pycache__")
        )
    shutil.copy(os.path.join(ROOT, "CONTRIBUTING.md"), folder)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return str(folder / "html")


class Links(html.parser.HTMLParser):
    """What a page refers to, and what it can be referred to by."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.names = [], set()
        with open(path) as file:
            self.feed(file.read())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.update(found[name] for name in ("id", "name") if found.get(name))
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]


def pages(built):
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(built)
        for name in names
        if name.endswith(".html") and "_static" not in folder
    )


def test_every_link_within_the_documentation_leads_somewhere(built):
    links = {path: Links(path) for path in pages(built)}
    assert len(links) > 50
    dead, followed = [], 0
    for path, page in links.items():
        for target in page.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc or target == "#":
                continue
            name = urllib.parse.unquote(url.path)
            leads_to = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            followed += 1
            has_place = not url.fragment or leads_to not in links or url.fragment in links[leads_to].names
            if not os.path.exists(leads_to) or not has_place:
                dead.append((os.path.relpath(path, built), target))
    assert dead == []
    assert followed > 1000


def test_every_page_can_be_found_by_its_words(built):
    with open(os.path.join(built, "searchindex.js")) as file:
        index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", file.read(), re.DOTALL)[1])
    assert {"start", "moving", "caveats", "guide", "api/index", "performance"} <= set(index["docnames"])
    assert "sigbus" in index["terms"]


def test_every_public_name_has_its_place_in_the_reference(built):
    import ndfile as nf

    names = set().union(*(Links(path).names for path in pages(built) if "generated" in path))
    missing = [name for name in nf.__all__ if f"ndfile.{name}" not in names and f"module-ndfile.{name}" not in names]
    assert missing == []


@pytest.mark.skipif(BROWSER is None, reason="no browser")
@pytest.mark.parametrize("page", ["index", "start", "moving", "performance", "api/generated/ndfile.memmap"])
def test_a_browser_shows_a_page_as_wide_as_a_phone_and_has_nothing_to_complain_about(built, page, tmp_path):
    path = os.path.join(built, f"{page}.html")
    probe = "<script>addEventListener('load',()=>document.title='width:'+document.documentElement.scrollWidth)</script>"
    with open(path) as file:
        text = file.read()
    copy = f"{path[: -len('.html')]}-probed.html"
    with open(copy, "w") as file:
        file.write(text.replace("</head>", f"{probe}</head>"))
    try:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,1400"]
        command += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--dump-dom", f"file://{copy}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    finally:
        os.unlink(copy)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if "[PST]: Changed to auto mode" not in line] == []  # the theme's own remark
    width = int(re.search(r"<title>width:(\d+)</title>", done.stdout)[1])
    assert width <= 500
