"""HDF5's dimension scales: datasets that name the dimensions of others, as netCDF has it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ndfile.formats.format import Member

__all__ = ["Scales", "is_scale"]

# Of the attribute that a scale keeps; 16 bytes for each use.
MOST_NBYTES = 1 << 20
USE_NBYTES = 16

# A dataset has no more dimensions.
MOST_AXES = 32


def is_scale(metadata: Mapping[str, Any]) -> bool:
    """Tell whether a dataset with these attributes is a scale."""
    return metadata.get("CLASS") == "DIMENSION_SCALE"


class Scales:
    """Which dimensions the scales of a file are attached to.

    A dataset lists its scales in ``DIMENSION_LIST``, whose values lie in a heap, which is not read here. But each scale
    lists its uses as well, in ``REFERENCE_LIST``: the addresses of datasets, and the numbers of their dimensions.
    """

    def __init__(self) -> None:
        self.names: dict[tuple[int, int], list[str]] = {}  # by address and axis
        self.addresses: dict[str, int] = {}

    def take(self, h5py: Any, name: str, scale: Any) -> None:
        """Take down what a scale is attached to. Whatever is odd about the list, the array is whole all the same."""
        try:
            uses = _uses(h5py, scale)
        except Exception:
            return
        for address, axis in uses:
            names = self.names.setdefault((address, axis), [])
            if axis < MOST_AXES and name not in names[-1:]:  # those of one scale come together
                names.append(name)

    def named(self, member: Member) -> Member:
        """A member with the names of its scales, one list to a dimension, as ``DIMENSION_LIST`` has them."""
        address = self.addresses.get(member.name, -1)
        found = [self.names.get((address, axis), []) for axis in range(min(len(member.shape), MOST_AXES))]
        if not any(found):
            return member
        return member._replace(metadata={**member.metadata, "DIMENSION_LIST": found})


def _uses(h5py: Any, scale: Any) -> list[tuple[int, int]]:
    if not h5py.h5a.exists(scale, b"REFERENCE_LIST"):
        return []
    attribute = h5py.h5a.open(scale, b"REFERENCE_LIST")
    stored, h5t = attribute.get_type(), h5py.h5t
    is_list = (
        stored.get_class() == h5t.COMPOUND
        and stored.get_size() == USE_NBYTES
        and [stored.get_member_name(i) for i in range(stored.get_nmembers())] == [b"dataset", b"dimension"]
        and stored.get_member_type(0).equal(h5t.STD_REF_OBJ)
        and stored.get_member_class(1) == h5t.INTEGER
        and stored.get_member_type(1).get_size() == 4
    )
    shape = attribute.get_space().shape
    if not is_list or shape is None or len(shape) != 1 or shape[0] * USE_NBYTES > MOST_NBYTES:
        return []
    # Read as it is stored: h5py would make an object of each reference. A reference is an address, little-endian.
    raw = np.zeros(shape, f"V{USE_NBYTES}")
    attribute.read(raw, stored)
    order = ">" if stored.get_member_type(1).get_order() == h5t.ORDER_BE else "<"
    offsets = [0, stored.get_member_offset(1)]
    fields = {
        "names": ["address", "axis"],
        "formats": ["<u8", f"{order}u4"],
        "offsets": offsets,
        "itemsize": USE_NBYTES,
    }
    return [(int(address), int(axis)) for address, axis in raw.view(np.dtype(fields))]  # type: ignore[call-overload]
