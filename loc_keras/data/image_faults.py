"""Why the picture of a record cannot be made, in words."""

from loc_keras.data.annotations import Fault, ImageRef
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.image_header import Header, HeaderError, read_header
from loc_keras.data.records import Records

_TRANSPOSED = range(5, 9)


def image_fault(records: Records, index: int, form: ImageFormat) -> Fault:
    """The fault of a record whose picture `record_images.load_pixels` could not make.

    Its kind is that of `HeaderError`, or `"size"` where the format takes no other size, or
    `"damaged"` where the header is good.
    """
    path = str(records.paths[index])
    ref = ImageRef(path, int(records.offsets[index]), int(records.lengths[index]))
    try:
        header = read_header(ref)
    except HeaderError as error:
        return records.fault(index, f"image {path} {error.reason}", error.kind)
    size = _size(records, index, header)
    if form.rule is None and size != form.size:
        return records.fault(
            index,
            f"image {path} is {size[1]} x {size[0]} px and the first one is {form.size[1]} x "
            f"{form.size[0]}; set data.image_size to bring all to one size",
            "size",
        )
    return records.fault(index, f"image {path} {undecodable(header)}", "damaged")


def undecodable(header: Header) -> str:
    """What is told of an image with a good header whose pixels cannot be made."""
    return (
        f"cannot be decoded: its {header.format} data is damaged, cut short or of an unsupported "
        f"kind ({header.mode}, {header.bits} bit)"
    )


def _size(records: Records, index: int, header: Header) -> tuple[int, int]:
    """Height and width of the picture of a record, before it is resized."""
    left, top, right, bottom = (int(value) for value in records.windows[index])
    if right:
        return bottom - top, right - left
    if records.orientations[index] in _TRANSPOSED:
        return header.width, header.height
    return header.height, header.width
