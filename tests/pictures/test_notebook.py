"""What notebooks show: HTML of facts, from which no name gets out, and no page of data is read for it."""

import html.parser
import re

import numpy as np
import pytest
from cold_files import cool, pages_in_memory

import ndfile as nf

TAGS = {"div", "table", "tr", "th", "td", "svg", "rect", "strong", "span", "pre"}


class Page(html.parser.HTMLParser):
    """Parsed HTML: cells by rows, and proof that tags are closed in their order and are none but ours."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.tags, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS
        for name, _ in attributes:
            assert not name.startswith("on")
            assert name not in ("href", "src", "id")
        self.open.append(tag)
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert tag == "rect"
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    @property
    def facts(self):
        return dict(self.rows)


HOSTILE = "<script>alert(1)<\u200b/script>\x1b[2J\"'&amp;\n\u202e.npy"


def test_an_array_is_shown_by_its_facts(tmp_path):
    nf.save(tmp_path / "x.npy", np.asfortranarray(np.ones((30, 40), ">f4")))
    a = nf.open(tmp_path / "x.npy")
    facts = Page(a._repr_html_()).facts
    assert facts == {
        "file": str(tmp_path / "x.npy"),
        "format": "npy",
        "dtype": ">f4",
        "shape": "(30, 40)",
        "size": "4.69 KiB, 1,200 items",
        "order": "F",
        "mode": "r, read only",
        "resident": facts["resident"],
    }
    assert re.fullmatch(r"8 KiB of 8 KiB in memory \(100%\).*", facts["resident"])


def test_a_view_is_shown_as_one(array):
    facts = Page(array[1:, ::2]._repr_html_()).facts
    assert (facts["shape"], facts["order"], facts["format"]) == ("(2, 2), a view", "strides (16, 8)", "raw bytes")
    assert facts["mode"] == "r+, read and write"


def test_no_page_of_data_is_read_for_it(tmp_path):
    path = str(tmp_path / "x.dat")
    with open(path, "wb") as file:
        file.write(bytes(1 << 22))
    cool(path)
    with nf.memmap(path, "f4", "r", shape=(1024, 1024)) as a:
        assert "0 bytes of 4 MiB in memory (0%)" in a._repr_html_()
        assert "0 bytes of" in a[5:, 3]._repr_html_()
        assert not pages_in_memory(path).any()
        assert a[0, 0] == 0
        assert "(0%)" not in a._repr_html_()


def test_the_bar_has_what_is_in_memory_in_its_place(tmp_path):
    path = str(tmp_path / "x.dat")
    with open(path, "wb") as file:
        file.write(bytes(1 << 22))
    cool(path)
    with nf.memmap(path, "u1", "r") as a:
        a.prefetch(slice(1 << 21, None), wait=True)
        rects = [attributes for tag, attributes in Page(a._repr_html_()).tags if tag == "rect"]
    assert [(one["x"], one["width"], one["fill-opacity"]) for one in rects] == [("64", "64", "0.9")]


def test_a_hostile_name_is_text_that_can_be_seen(tmp_path):
    path = tmp_path / HOSTILE.replace("/", "\u2215")
    np.save(path, np.zeros(3))
    page = Page(nf.open(path)._repr_html_())
    assert page.facts["file"].isprintable()
    assert page.facts["file"].endswith(r"""[2J"'&amp;\n\u202e.npy""")


def test_a_name_of_broken_bytes_can_be_sent_on(tmp_path):
    path = bytes(tmp_path) + b"/\xff\xfe.npy"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    Page(nf.open(path)._repr_html_()).text.encode("utf-8")


def test_hostile_fields_and_members_are_text_too(tmp_path):
    name = "<img src=x onerror=alert(1)>" + "x" * 1000
    np.savez(tmp_path / "w.npz", **{name: np.zeros(3, [(name, "f4")])})
    archive = nf.open(tmp_path / "w.npz")
    page = Page(archive._repr_html_())
    assert page.rows[1][0].startswith("<img src=x")
    assert len(page.rows[1][0]) < 400
    Page(archive[name]._repr_html_())


def test_a_closed_array_is_shown_as_closed(tmp_path):
    nf.save(tmp_path / "x.npy", np.zeros(3))
    a = nf.open(tmp_path / "x.npy")
    a.close()
    facts = Page(a._repr_html_()).facts
    assert facts["state"] == "closed"
    assert "resident" not in facts


def test_an_empty_array_has_no_bar(tmp_path):
    nf.save(tmp_path / "x.npy", np.zeros((0, 3)))
    page = Page(nf.open(tmp_path / "x.npy")._repr_html_())
    assert page.facts["size"] == "0 bytes, 0 items"
    assert "svg" not in dict(page.tags)


def test_an_array_without_a_file_is_shown_as_numpy_shows_it():
    a = np.arange(3).view(nf.memmap)
    assert Page(a._repr_html_()).text == repr(a)


def test_an_archive_is_shown_by_its_members(tmp_path):
    np.savez(tmp_path / "w.npz", bias=np.arange(3), kernel=np.asfortranarray(np.eye(200)))
    archive = nf.open(tmp_path / "w.npz")
    page = Page(archive._repr_html_())
    assert page.rows == [
        ["name", "dtype", "shape", "order", "size", "in memory"],
        ["bias", "int64", "(3,)", "", "24 bytes", "100%"],
        ["kernel", "float64", "(200, 200)", "F", "312 KiB", "100%"],
    ]
    assert page.text.startswith(f"{tmp_path / 'w.npz'} npz, 2 members, mode r")
    archive.close()
    assert "closed" in Page(archive._repr_html_()).text


def test_members_that_cannot_be_mapped_are_shown_with_the_reason(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(1000))
    page = Page(nf.open(tmp_path / "w.npz")._repr_html_())
    assert page.rows[1][-1].startswith("cannot be mapped: ")


def test_of_many_members_the_first_are_shown(tmp_path):
    np.savez(tmp_path / "w.npz", **{f"m{i}": np.zeros(1) for i in range(250)})
    page = Page(nf.open(tmp_path / "w.npz")._repr_html_())
    assert len(page.rows) == 101
    assert page.text.endswith("and 150 more")


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_is_to_be_written_is_told(tmp_path, mode):
    with nf.memmap(tmp_path / "x.dat", "u1", "w+", shape=1 << 20) as a:
        a[:] = 1
    with nf.memmap(tmp_path / "x.dat", "u1", mode) as a:
        assert Page(a._repr_html_()).facts["mode"].startswith(mode)
