"""TFRecord shards: which records are intact, and at which bytes they lie.

A record is its length (8 bytes, little endian), a checksum of those (4), the data, and a checksum
of the data (4). Checksums are CRC-32C, masked as TFRecord files have them.
"""

import struct
from array import array
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import tensorflow as tf

from loc_keras.data import files
from loc_keras.errors import DataError

LARGEST_RECORD = 2**28
"""Bytes of the largest record that is read."""

_HEADER = struct.Struct("<QI")
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Shard(NamedTuple):
    """The records of a shard whose frames are intact.

    Attributes:
        path: The file.
        lengths: Bytes of data of each.
        lost: Why the file cannot be read on after them; `""` at its end.
    """

    path: str
    lengths: array
    lost: str


class LostError(Exception):
    """A record and what follows it cannot be read.

    Attributes:
        row: Number of the record, from 1.
    """

    def __init__(self, row: int, reason: str):
        super().__init__(reason)
        self.row = row


def scan_shard(path: str) -> Shard:
    """Walks from frame to frame without reading the data.

    Frames are checked here before TensorFlow reads the records, since it takes a length from the
    file at its word and asks for that much memory.

    Raises:
        DataError: If the shard is compressed or cannot be opened.
    """
    lengths, position = array("Q"), 0
    try:
        size = files.file_size(path)
        with files.open_binary(path) as file:
            while position < size:
                file.seek(position)
                header = file.read(_HEADER_BYTES)
                reason = _frame_fault(header, size - position)
                if reason:
                    _refuse_compressed(path, header, position)
                    return Shard(path, lengths, f"{reason}; {_lost_bytes(position, size)}")
                lengths.append(_HEADER.unpack(header)[0])
                position += _HEADER_BYTES + lengths[-1] + _FOOTER_BYTES
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"TFRecord shard {path} cannot be read: {error}.") from error
    return Shard(path, lengths, "")


def read_records(shard: Shard) -> Iterator[tuple[int, int, bytes]]:
    """Reads the data of intact records, one at a time, and verifies their checksums.

    Yields:
        Number of the record from 1, offset of its data in the file, and the data.

    Raises:
        LostError: At a record whose data was changed; no later one is read.
    """
    row, position = 0, 0
    if not shard.lengths:
        return
    try:
        dataset = tf.data.TFRecordDataset([shard.path]).take(len(shard.lengths))
        for data in dataset.as_numpy_iterator():
            row += 1
            yield row, position + _HEADER_BYTES, data
            position += _HEADER_BYTES + len(data) + _FOOTER_BYTES
    except tf.errors.OpError:
        others = len(shard.lengths) - row - 1
        after = f" and the {others} records after it are" if others else " is"
        raise LostError(row + 1, f"does not match its checksum; it{after} lost") from None


def _frame_fault(header: bytes, left: int) -> str:
    """What is wrong with a frame of which `left` bytes are in the file; `""` for nothing."""
    if len(header) < _HEADER_BYTES:
        return "is cut off within its header"
    length, checksum = _HEADER.unpack(header)
    if checksum != masked_crc32c(header[:8]):
        return "is not a TFRecord: the checksum of its length does not match"
    if length > LARGEST_RECORD:
        return f"has {length} bytes, more than {LARGEST_RECORD >> 20} MiB"
    if _HEADER_BYTES + length + _FOOTER_BYTES > left:
        return f"is cut off: it should have {length} bytes of data"
    return ""


def _lost_bytes(position: int, size: int) -> str:
    return f"bytes {position} to {size} of the shard are lost"


def _refuse_compressed(path: str, header: bytes, position: int) -> None:
    if position == 0 and header[:2] in (_GZIP_MAGIC, *_ZLIB_HEADERS):
        raise DataError(
            f"TFRecord shard {path} is compressed; write it without compression (images are "
            "compressed already), since they are fetched from it by byte range."
        )


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes, rotated and offset as TFRecord files do.

    Meant for the few bytes of a header: it takes some 0.1 microseconds a byte.
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)
