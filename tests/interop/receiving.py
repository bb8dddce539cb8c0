"""What runs in other processes, for tests of what they get."""

import pickle
from typing import Any, NamedTuple

import numpy as np

import ndfile as nf

__all__ = [
    "BeforeIt",
    "OfThree",
    "Rows",
    "Seen",
    "Tagged",
    "Writing",
    "error_of_use",
    "fill",
    "items_at",
    "plain_pickle",
    "plain_pickle_of_another",
    "same",
    "see",
    "see_all",
    "serve",
    "serve_pipe",
    "tell",
]


class OfThree(nf.memmap):
    """A subclass."""

    def three(self):
        return 3


class Tagged(nf.memmap):
    """A subclass whose pickles hold more than the array, as NumPy's documents tell to do it."""

    def __reduce__(self):
        function, arguments, state = super().__reduce__()
        return function, arguments, (*state, self.tag)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.tag = state[-1]


class Seen(NamedTuple):
    """What a process got. The array's bytes are in two forms, because NumPy's copies leave out some and turn others."""

    kind: type
    path: str | None
    mode: str | None
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    items: str
    content: bytes


def see(array):
    path, mode = getattr(array, "filename", None), getattr(array, "mode", None)
    plain = np.asarray(array)
    content = plain.view(f"V{array.itemsize}").tobytes()
    return Seen(type(array), path and str(path), mode, array.dtype, array.strides, repr(plain.tolist()), content)


def see_all(arrays):
    return {name: see(array) for name, array in arrays.items()}


def same(thing):
    return thing


def fill(array, value):
    array[...] = value


def items_at(array, places):
    return [int(array[place]) for place in places]


def plain_pickle(array):
    return pickle.dumps(array)


def plain_pickle_of_another(array):
    return pickle.dumps({"a": array[1:], "b": [array]})


def tell(answers, arrays, other):
    answers.put({**see_all(arrays), "other": see(other)})


def serve(requests, answers):
    """Answer requests of two queues until there is one that is None."""
    while (request := requests.get()) is not None:
        function, arguments = request
        try:
            answers.put((True, function(*arguments)))
        except BaseException as error:
            answers.put((False, error))


def serve_pipe(pipe):
    while (request := pipe.recv()) is not None:
        function, arguments = request
        try:
            pipe.send((True, function(*arguments)))
        except BaseException as error:
            pipe.send((False, error))


class BeforeIt:
    """What calls a function where it is unpickled, before what comes after it is."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def error_of_use(_, array):
    try:
        return int(np.sum(array))
    except Exception as error:
        return error


class Rows:
    """A map-style dataset that holds an array, as it is or in something else."""

    def __init__(self, held):
        self.held = held

    @property
    def array(self):
        return self.held["deep"][0] if isinstance(self.held, dict) else self.held

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return index, np.array(self.array[index]), see(self.array)[:-2]


class Writing(Rows):
    """One that writes what it is asked for."""

    def __getitem__(self, index):
        self.array[index] = -index
        return index
