"""Which annotation format a folder holds, told from names and the beginnings of files."""

from collections import Counter
from collections.abc import Iterator

from loc_keras.data import files
from loc_keras.data.detect.listing import MOST_NAMES, Guess, Listing, list_folder
from loc_keras.data.formats.parsing import IMAGE_ENDINGS
from loc_keras.data.formats.registry import FORMATS
from loc_keras.errors import DataError

NEEDED = (
    "csv needs a table with file, class and four numbers a row, voc XML files, coco a JSON file "
    "with images, annotations and categories, yolo a data.yaml with train and names, tfrecord "
    "shards named .tfrecord"
)
_MOST_ENDINGS = 6
_MOST_SHOWN = 3


def look_through(root: str) -> Listing:
    """Lists a data folder for `guesses`.

    Raises:
        DataError: If it is missing, a file, or empty.
    """
    if files.is_file(root):
        raise DataError(f"{root} is a file; --data takes the folder that holds images and labels.")
    if not files.is_folder(root):
        raise DataError(f"data folder {root} does not exist; mend --data.")
    listing = list_folder(root)
    if not listing.endings():
        raise DataError(f"data folder {root} is empty; --data takes one with images and labels.")
    return listing


def guesses(listing: Listing) -> Iterator[Guess]:
    """Possible readings of a folder, the likeliest first; each has still to be tried."""
    for one in FORMATS.values():
        yield from one.detect(listing)


def nothing_found(listing: Listing) -> str:
    """A sentence for a folder that no reading fits: what is there, and what would be needed."""
    counts = listing.endings()
    images = sum(count for ending, count in counts.items() if ending in IMAGE_ENDINGS)
    held = [path for path, folder in listing.folders.items() if folder.images and path]
    if images and not _may_be_annotations(counts):
        where = ""
        if len(held) > 1:
            shown = ", ".join(held[:_MOST_SHOWN]) + (", ..." if held[_MOST_SHOWN:] else "")
            where = f" in {len(held)} folders ({shown})"
        return (
            f"{listing.root} holds {images:,} images{where} but no boxes: a localizer learns where "
            "an object is from one box an image, so draw them with a labelling tool and save them "
            "beside the images as VOC, COCO, YOLO or CSV."
        )
    return (
        f"{listing.root} holds {_counted(counts)}, but no annotations that are recognised: "
        f"{NEEDED}; or name format and files in a config (docs/data.md) and give it to --config."
    )


def bounded_note(listing: Listing) -> str:
    """A sentence where the folder was too large to be looked through; else `""`."""
    if listing.complete:
        return ""
    return (
        f"only the first {MOST_NAMES:,} names of {listing.root} were looked at to tell its format."
    )


def _may_be_annotations(counts: Counter[str]) -> bool:
    others = set(counts) - IMAGE_ENDINGS - {".md", ".pdf", ".html", ".py", ".ipynb", ".zip"}
    return bool(others)


def _counted(counts: Counter[str]) -> str:
    parts = [f"{count:,} {ending or 'without ending'}" for ending, count in counts.most_common()]
    rest = len(parts) - _MOST_ENDINGS
    return ", ".join(parts[:_MOST_ENDINGS]) + (f" and {rest} more kinds" if rest > 0 else "")
