"""JPEG pictures as cameras send them: whole or not, and with Huffman tables or without."""

from __future__ import annotations

from typing import Final

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_DHT: Final = 0xC4
_SOS: Final = 0xDA
_FILLING: Final = 0xFF

_DC_LUMINANCE: Final = "00010501010101010100000000000000000102030405060708090a0b"
_DC_CHROMINANCE: Final = "00030101010101010101010000000000000102030405060708090a0b"
_AC_LUMINANCE: Final = (
    "0002010303020403050504040000017d"
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a2526"
    "2728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485"
    "868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6"
    "d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMINANCE: Final = (
    "00020102040403040705040400010277"
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1171819"
    "1a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a8283"
    "8485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4"
    "d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)

_TABLES: Final = b"".join(
    bytes([number]) + bytes.fromhex(table)
    for number, table in (
        (0x00, _DC_LUMINANCE),
        (0x10, _AC_LUMINANCE),
        (0x01, _DC_CHROMINANCE),
        (0x11, _AC_CHROMINANCE),
    )
)
"""The tables of ITU-T T.81, annex K.3, which MJPEG means when it has none."""

_SEGMENT: Final = bytes([0xFF, _DHT]) + (len(_TABLES) + 2).to_bytes(2, "big") + _TABLES


def complete(packet: bytes) -> bytes | None:
    """Return a packet of MJPEG as a JPEG file, untouched if it is one; None if it is not a whole picture."""
    end = packet.rfind(_END)  # Some cameras fill the rest of the packet.
    if not packet.startswith(_START) or end < 0:
        return None
    picture = packet if end + 2 == len(packet) else packet[: end + 2]
    at = 2
    while at + 4 <= len(picture):
        if picture[at] != _FILLING:
            return None
        marker = picture[at + 1]
        if marker == _FILLING:  # a byte of filling
            at += 1
        elif marker == _DHT:
            return picture
        elif marker == _SOS:
            return picture[:at] + _SEGMENT + picture[at:]
        else:
            at += 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
    return None
