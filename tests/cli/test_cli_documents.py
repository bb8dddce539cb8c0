"""What docs/cli.md shows is what the commands print."""

import os
import re
import shlex

import pytest

PAGE = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "docs", "cli.md")

# What depends on the file system, and on what else the machine does.
VARYING = re.compile(r"^(on disk|in memory) .*$|(?<=MiB) before|, [0-9.]+ [KM]iB of it to be written", re.MULTILINE)


def commands():
    """The commands on the page, with what it says that they print."""
    if not os.path.exists(PAGE):  # where the tests run on an installed package alone
        return []
    with open(PAGE, encoding="utf-8") as file:
        blocks = re.findall(r"^```console\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    parts = [
        part.split("\n", 1) for block in blocks for part in re.split(r"^\$ ndfile ", block, flags=re.MULTILINE)[1:]
    ]
    return [(words, shown) for words, shown in parts]


@pytest.mark.usefixtures("recording", "weights", "events", "samples")
def test_every_command_on_the_page_prints_what_it_shows(fine):
    found = commands()
    assert len(found) > 12 or not os.path.exists(PAGE)
    for words, shown in found:
        out = fine(*shlex.split(words))
        assert VARYING.sub("", out) == VARYING.sub("", shown.rstrip("\n") + "\n"), words
