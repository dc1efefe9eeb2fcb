"""Opens TFDS data sets and gives their examples, images still encoded."""

from collections.abc import Iterator, Sequence
from typing import Any

from loc_keras.data.readers.tfds_features import Place
from loc_keras.errors import DataError

ID = "tfds_id"
"""Key under which an example says what it is: its shard and its number there."""


def open_builder(root: str, name: str, *, download: bool) -> Any:
    """Opens a data set that is prepared on disk, or prepares it.

    What is on disk is opened from its own files alone: neither the code that made it nor the
    network is needed.

    Args:
        root: TFDS's `data_dir`.
        name: As `tfds.builder` takes it: `name`, `name/config`, `name:1.0.0`.
        download: Whether to download and prepare a data set that is not there.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        DataError: If TFDS is not installed, the data set is not there or cannot be prepared.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            "the tfds format needs TensorFlow Datasets; install it by: "
            f"pip install tensorflow-datasets ({error})."
        ) from error
    # TFDS raises errors of many types, those of its downloads and of each data set's own code
    # among them; none of them is the user's to trace.
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        if not download:
            raise DataError(
                f"the TFDS data set {name} is not prepared below {root}; set data.source.path to "
                "its data_dir, or data.source.tfds.download to true to fetch and prepare it there."
            ) from error
    except Exception as error:
        raise DataError(f"the TFDS data set {name} below {root}: {_sentence(error)}") from error
    try:
        builder = tfds.builder(name, data_dir=root, try_gcs=False)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:
        raise DataError(
            f"the TFDS data set {name} could not be prepared in {root}: {_sentence(error)}"
        ) from error
    return builder


def check_splits(builder: Any, specs: Sequence[str]) -> None:
    """Checks that a data set has the splits that are asked for.

    Args:
        builder: The data set.
        specs: In TFDS's notation, such as `train[:90%]` or `train+validation`.

    Raises:
        DataError: If one names a split that the data set lacks.
    """
    known = list(builder.info.splits)
    for spec in specs:
        for part in spec.split("+"):
            name = part.partition("[")[0].strip()
            # A data set that was never prepared knows no splits, and any is tried.
            if known and name not in (*known, "all"):
                raise DataError(
                    f"the TFDS data set {builder.info.name} has no split {name!r}; it has "
                    f"{', '.join(known)}. Set data.source.tfds.splits to these, or to null where "
                    "a split shall be cut off train."
                )


def examples(builder: Any, spec: str, wanted: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """Examples of a split, always in the same order.

    Args:
        builder: The data set.
        spec: Split in TFDS's notation.
        wanted: Features to read; images come as encoded bytes.

    Yields:
        Nested dicts of NumPy values, with `ID` at the top.

    Raises:
        DataError: If the split cannot be read.
    """
    import tensorflow_datasets as tfds

    features: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    for place in wanted:
        _put(features, place.path, True)
        if isinstance(place.feature, tfds.features.Image):
            _put(decoders, place.path, tfds.decode.SkipDecoding())
    try:
        dataset = builder.as_dataset(
            split=spec,
            decoders=tfds.decode.PartialDecoding(features, decoders=decoders or None),
            shuffle_files=False,
            read_config=tfds.ReadConfig(
                add_tfds_id=True, try_autocache=False, interleave_cycle_length=1
            ),
        )
        yield from tfds.as_numpy(dataset)
    except GeneratorExit:
        raise
    except Exception as error:
        raise DataError(
            f"split {spec!r} of the TFDS data set {builder.info.name} cannot be read: "
            f"{_sentence(error)}"
        ) from error


def value_at(example: dict[str, Any], place: Place) -> Any:
    """The value of a feature in an example."""
    value: Any = example
    for key in place.path:
        value = value[key]
    return value


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _sentence(error: Exception) -> str:
    """The first line of what an error says, which TFDS follows by pages of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
