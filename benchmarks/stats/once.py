"""The program that runs one side of a task in a process that has done nothing before.

Arguments: the folder, the task's name, the side's. It says when it is ready, waits for a line, works, and writes its
seconds and the result's digest to standard output. It has tried the small file before, so modules are imported.
"""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from stats import files, tasks


def main() -> None:
    folder, task_name, side_name = sys.argv[1:]
    task = next(task for task in tasks.all_tasks() if task.name == task_name)
    side = task.sides({})[side_name]
    side.act(side.open(os.path.join(folder, files.TINY)))
    print("ready", flush=True)
    sys.stdin.readline()
    operand = side.open(folder)
    start_s = time.perf_counter()
    result = side.act(operand)
    taken_s = time.perf_counter() - start_s
    print("done", flush=True)
    sys.stdin.readline()
    found = [] if side_name == tasks.LIMIT else tasks.digest(task.operation, operand, result).tolist()
    print(taken_s, *found)


if __name__ == "__main__":
    main()
