"""What a file format owes, as tests to inherit. They run under pytest, for ndfile's own formats and for everybody's.

`FormatContract` holds what every format owes, `WritingContract` what one that writes owes as well, and
`DecodingContract` is for one with arrays that cannot be mapped but read. A test module subclasses what applies, and
says how the format's own library, or any program that is not the format under test, writes and reads such files.
"""

from ndfile.testing.contract import FormatContract
from ndfile.testing.decoding import DecodingContract
from ndfile.testing.writing import WritingContract

__all__ = ["DecodingContract", "FormatContract", "WritingContract"]
