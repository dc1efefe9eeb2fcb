"""How large a picture may be, told by its header before any pixel is allocated."""

MAX_PIXELS = 2**26
"""Most pixels of a picture that is decoded, 67 million: a 64-megapixel camera's 9248 x 6944 passes
and takes 200 MB in colour; a file that declares more is taken for a decompression bomb."""
