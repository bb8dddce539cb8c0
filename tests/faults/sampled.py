"""A plugin for pytest: of each test a few of its sets of parameters, drawn by lot, always the same.

`python -m pytest -p sampled` runs as many of each as NDFILE_SAMPLED says.
"""

import collections
import os
import random


def pytest_collection_modifyitems(config, items):
    most = int(os.environ["NDFILE_SAMPLED"])
    of_each = collections.defaultdict(list)
    for number, item in enumerate(items):
        of_each[item.nodeid.partition("[")[0]].append(number)
    chosen = set()
    for name, numbers in of_each.items():
        chosen.update(numbers if len(numbers) <= most else random.Random(name).sample(numbers, most))
    config.hook.pytest_deselected(items=[item for number, item in enumerate(items) if number not in chosen])
    items[:] = [item for number, item in enumerate(items) if number in chosen]
