"""The constructor's signature is NumPy's."""

import inspect

import numpy as np
import pytest

import ndfile as nf


def parameters(function):
    """Names, kinds and defaults after the first, which is the class."""
    found = list(inspect.signature(function).parameters.values())[1:]
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


def test_the_constructor_has_numpys_parameters_in_order_with_numpys_defaults():
    ours = [
        (name, kind, default)
        for name, kind, default in parameters(nf.memmap.__new__)
        if kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    assert ours == parameters(np.memmap.__new__)


@pytest.mark.parametrize("name", ["flush"])
def test_methods_have_numpys_parameters(name):
    assert parameters(getattr(nf.memmap, name)) == parameters(getattr(np.memmap, name))


@pytest.mark.parametrize("name", ["flush", "close", "_from_mapping"])
def test_methods_written_in_c_tell_their_signature(name):
    assert inspect.signature(getattr(nf.memmap, name)) is not None


@pytest.mark.parametrize("name", sorted(set(vars(np.memmap)) - {"__dict__", "__module__", "__doc__", "__orig_bases__"}))
def test_nothing_that_numpys_class_defines_is_left_to_its_code(name):
    ours = next(vars(cls)[name] for cls in nf.memmap.__mro__ if name in vars(cls))
    assert ours is not vars(np.memmap)[name] or not callable(ours)
