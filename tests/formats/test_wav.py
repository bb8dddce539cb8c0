"""WAV files, against what scipy.io.wavfile, wave and soundfile read and write."""

import os
import struct
import wave

import numpy as np
import pytest
import scipy.io
import soundfile
from scipy.io import wavfile

import ndfile as nf
from ndfile.formats import Source, named

RANDOM = np.random.default_rng(0)
REAL = os.path.join(os.path.dirname(scipy.io.__file__), "tests", "data")
MAPPABLE = [
    "test-44100Hz-2ch-32bit-float-be.wav",
    "test-44100Hz-2ch-32bit-float-le.wav",
    "test-44100Hz-be-1ch-4bytes.wav",
    "test-44100Hz-le-1ch-4bytes-rf64.wav",
    "test-44100Hz-le-1ch-4bytes.wav",
    "test-48000Hz-2ch-64bit-float-le-wavex.wav",
    "test-8000Hz-le-2ch-1byteu.wav",
    "test-8000Hz-le-3ch-5S-64bit.wav",
    "test-8000Hz-le-4ch-9S-12bit.wav",
    "test-8000Hz-le-5ch-9S-5bit.wav",
]
WIDENED = [
    "test-1234Hz-le-1ch-10S-20bit-extra.wav",
    "test-8000Hz-be-3ch-5S-24bit.wav",
    "test-8000Hz-le-3ch-5S-24bit-rf64.wav",
    "test-8000Hz-le-3ch-5S-24bit.wav",
    "test-8000Hz-le-3ch-5S-36bit.wav",
    "test-8000Hz-le-3ch-5S-45bit.wav",
    "test-8000Hz-le-3ch-5S-53bit.wav",
]
BROKEN = [
    "test-44100Hz-le-1ch-4bytes-early-eof-no-data.wav",
    "test-44100Hz-le-1ch-4bytes-early-eof.wav",
    "test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav",
    "test-8000Hz-le-3ch-5S-24bit-inconsistent.wav",
]


@pytest.fixture
def wav(tmp_path):
    return str(tmp_path / "x.wav")


def decoded(path):
    """The one array of a file that cannot be mapped, with its piece sizes."""
    with open(path, "rb") as file:
        source = Source(file.fileno(), path, os.path.getsize(path))
        (member,) = named("wav").describe(source).members.values()
        pieces = list(named("wav").decode(source, member))
    assert all(piece.dtype == member.dtype for piece in pieces)
    values = np.frombuffer(b"".join(piece.tobytes() for piece in pieces), member.dtype)
    return values.reshape(member.shape), max((piece.nbytes for piece in pieces), default=0)


def patch(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (0, 2), (7, 2), (333, 5)], ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_what_scipy_wrote_is_mapped_as_scipy_reads_it(wav, dtype, shape):
    values = RANDOM.integers(0, 255, (*shape, np.dtype(dtype).itemsize), "u1").view(dtype)[..., 0]
    wavfile.write(wav, 44100, values)
    with nf.open(wav) as array:
        assert (array.dtype, array.shape) == (values.dtype, values.shape)
        assert array.tobytes() == values.tobytes()


@pytest.mark.filterwarnings("ignore:Chunk")  # scipy speaks of each that it skips
@pytest.mark.parametrize("name", MAPPABLE)
def test_a_real_file_is_mapped_as_scipy_reads_it(name):
    path = os.path.join(REAL, name)
    rate, values = wavfile.read(path)
    with nf.open(path) as array:
        assert (array.dtype, array.shape) == (values.dtype, values.shape)
        assert array.tobytes() == values.tobytes()
    assert nf.info(path).members["data"].metadata["rate"] == rate


@pytest.mark.parametrize("name", WIDENED)
def test_samples_of_odd_widths_are_refused_and_decoded_as_scipy_does(name):
    path = os.path.join(REAL, name)
    with pytest.raises(nf.FormatError, match=r"its samples have [3567] bytes, so that it cannot be mapped.*convert"):
        nf.open(path)
    values, _ = decoded(path)
    _, expected = wavfile.read(path)
    assert values.dtype.itemsize == expected.dtype.itemsize
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_real_file_is_refused(name):
    with pytest.raises(nf.FormatError):
        nf.open(os.path.join(REAL, name))


def test_encoded_samples_are_refused_by_the_name_of_their_code():
    path = os.path.join(REAL, "test-8000Hz-le-1ch-1byte-ulaw.wav")
    with pytest.raises(nf.FormatError, match=r"its samples are encoded \(mu-law\)"):
        nf.open(path)
    with pytest.raises(nf.FormatError, match="ndfile cannot decode that"):
        decoded(path)


@pytest.mark.parametrize(
    ("form", "endian"), [("WAV", "LITTLE"), ("WAV", "BIG"), ("WAVEX", "LITTLE"), ("RF64", "LITTLE")]
)
@pytest.mark.parametrize(
    ("subtype", "dtype"), [("PCM_U8", "u1"), ("PCM_16", "i2"), ("PCM_32", "i4"), ("FLOAT", "f4"), ("DOUBLE", "f8")]
)
def test_what_soundfile_wrote_is_mapped_as_soundfile_reads_it(wav, form, subtype, dtype, endian):
    values = (RANDOM.random((100, 3)) - 0.5).astype("f8")
    soundfile.write(wav, values, 8000, subtype, endian, form)
    with nf.open(wav) as array:
        assert array.dtype == np.dtype(dtype).newbyteorder(">" if endian == "BIG" else "<")
        assert array.shape == (100, 3)
        if dtype[0] == "f":
            np.testing.assert_array_equal(array, soundfile.read(wav, dtype="float64")[0])
        else:
            shift = {"u1": (128, 24), "i2": (0, 16), "i4": (0, 0)}[dtype]
            mapped = (array.astype("i8") - shift[0]) << shift[1]
            np.testing.assert_array_equal(mapped, soundfile.read(wav, dtype="int32")[0])


@pytest.mark.parametrize("codec", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_codecs_are_refused(wav, codec):
    soundfile.write(wav, np.zeros(1000), 8000, codec)
    with pytest.raises(nf.FormatError, match="its samples are encoded"):
        nf.open(wav)


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_what_the_standard_library_wrote_is_mapped_byte_for_byte(wav, width, channels):
    content = bytes(range(256)) * 28
    with wave.open(wav, "wb") as file:
        file.setparams((channels, width, 48000, 0, "NONE", ""))
        file.writeframes(content[: 28 * 8 * width * channels])
    with nf.open(wav) as array:
        assert array.tobytes() == content[: 28 * 8 * width * channels]


def test_a_change_in_place_is_seen_by_scipy_and_its_change_here(wav):
    wavfile.write(wav, 8000, np.arange(1000, dtype="i2").reshape(-1, 2))
    with nf.open(wav, "r+") as array:
        array[3] = -7
        _, theirs = wavfile.read(wav, mmap=True)
        np.testing.assert_array_equal(theirs[3], [-7, -7])
        other = np.memmap(wav, "i2", "r+", array.offset, (500, 2))
        other[4] = 99
        assert array[4].tolist() == [99, 99]
        del other, theirs


def test_more_than_a_piece_of_24_bit_samples_is_decoded_in_bounded_pieces(wav):
    content = RANDOM.bytes(3 * 2 * 400_000)
    with wave.open(wav, "wb") as file:
        file.setparams((2, 3, 48000, 0, "NONE", ""))
        file.writeframes(content)
    values, largest = decoded(wav)
    assert largest <= 2 << 20
    np.testing.assert_array_equal(values, wavfile.read(wav)[1])


def test_an_unfinished_file_is_mapped_to_its_end_with_a_note(wav):
    wavfile.write(wav, 8000, np.arange(100, dtype="i2"))
    for whole, data in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0), (236, 0xFFFFFFFF)):
        patch(wav, 4, struct.pack("<I", whole))
        patch(wav, 40, struct.pack("<I", data))
        with nf.open(wav) as array:
            np.testing.assert_array_equal(array, np.arange(100))
        assert "does not tell the size" in " ".join(nf.info(wav).notes)


def test_an_unfinished_rf64_file_is_mapped_to_its_end(wav):
    soundfile.write(wav, np.zeros(100), 8000, "PCM_16", None, "RF64")
    with open(wav, "rb") as file:
        place = file.read().index(b"data")
    for whole, data in ((0, 0), (2**64 - 1, 2**64 - 1)):
        patch(wav, 4, b"\xff" * 4)
        patch(wav, 20, struct.pack("<QQ", whole, data))
        patch(wav, place + 4, b"\xff" * 4)
        with nf.open(wav) as array:
            assert array.shape == (100,)


def test_an_empty_data_chunk_of_a_finished_file_is_an_empty_array(wav):
    wavfile.write(wav, 8000, np.arange(100, dtype="i2"))
    patch(wav, 40, struct.pack("<I", 0))
    with nf.open(wav) as array:
        assert array.shape == (0,)
    assert "200 bytes follow the data" in nf.info(wav).notes


def test_bytes_after_the_last_whole_frame_are_left_out_with_a_note(wav):
    wavfile.write(wav, 8000, np.arange(100, dtype="i2").reshape(-1, 2))
    patch(wav, 40, struct.pack("<I", 199))
    with nf.open(wav) as array:
        assert array.shape == (49, 2)
    assert "3 bytes after the last whole frame" in " ".join(nf.info(wav).notes)


def test_a_sparse_rf64_file_of_20_gib_opens(wav):
    header = struct.pack("<4sI4s4sIQQQI", b"RF64", 2**32 - 1, b"WAVE", b"ds64", 28, 20 << 30, 20 << 30, 0, 0)
    header += struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 2, 8000, 32000, 4, 16, b"data", 2**32 - 1)
    with open(wav, "wb") as file:
        file.write(header)
        file.truncate(len(header) + (20 << 30))
    with nf.open(wav) as array:
        assert array.shape == (5 << 30, 2)
        assert array[-1].tolist() == [0, 0]
