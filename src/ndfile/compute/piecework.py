"""Outputs that are filled from inputs piece by piece, by several threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndfile.compute.operands import within
from ndfile.compute.running import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    import numpy as np

    from ndfile.compute.blocks import Block
    from ndfile.compute.operands import Cut, Operand, Output
    from ndfile.progress import Progress

    Call: TypeAlias = Callable[[list[np.ndarray], Callable[[], list[np.ndarray]], Block, Block], Sequence[np.ndarray]]

__all__ = ["fill"]


def fill(
    call: Call,
    inputs: Sequence[Operand],
    outputs: Sequence[Output],
    cut: Cut,
    *,
    threads: int | None = None,
    progress: Progress = None,
    label: str = "",
) -> None:
    """Fill the outputs with what `call` gives.

    Parameters
    ----------
    call : callable
        ``call(parts, rooms, block, piece)`` gives the outputs' items, from the inputs' ones. It may have them in the
        arrays that ``rooms()`` gives, which then need not be copied. `piece` is where in `block` they are.
    inputs : sequence of Operand
    outputs : sequence of Output
    cut : Cut
        How all of them are cut.
    threads, progress, label
        See `run`.
    """

    def work(block: Block) -> None:
        parts = [one.read(within(block, one.axes)) for one in inputs]
        targets = [one.target(block) for one in outputs]
        froms = [cut.indices(block, one.axes) for one in inputs]
        places = [cut.indices(block, one.axes) for one in outputs]
        for number, piece in enumerate(cut.pieces(block)):
            taken = [part[where[number]] for part, where in zip(parts, froms, strict=True)]
            to = [where[number] for where in places]

            def rooms(to: list[Any] = to) -> list[np.ndarray]:
                return [target.room(index) for target, index in zip(targets, to, strict=True)]

            results = call(taken, rooms, block, piece)
            for target, index, items in zip(targets, to, results, strict=True):
                target.store(index, items)
        for one in inputs:
            one.check(within(block, one.axes))
        for target in targets:
            target.finish()

    nbytes = max(array.nbytes for array in [one.array for one in inputs] + [one.array for one in outputs])
    run(work, cut.blocks, _nothing, threads=threads, progress=progress, nbytes=nbytes, label=label)


def _nothing(block: Block, result: None) -> None:
    pass
