"""On a worker: outputs of `serving_default` as the records that a local `predict` writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.localizer.told import localization_of

Record = dict[str, Any]

_TRUST = ("softmax_calibrated", "p_iou50", "label_set")
_OUTER_BOXES = ("box_outer", "box_inner")

NEEDED = frozenset({"ok", "reason", "probabilities", "box_fraction", "size"})
"""Outputs without which there is no record."""


def records_of(
    outputs: Mapping[str, npt.NDArray],
    heads: Sequence[Record],
    names: Sequence[str],
    *,
    background: int | None,
    top_k: int,
) -> list[Record]:
    """A record for each picture: its head and the answer or, where it could not be read, `reason`.

    Args:
        outputs: Of the signature, for N pictures.
        heads: N times `image` and `path`.
        names: Of the classes by index.
        background: Index of the class of images without an object; None without one.
        top_k: How many classes are told.
    """
    arrays = {"softmax": outputs["probabilities"], "bbox": outputs["box_fraction"]}
    arrays |= {name: outputs[name] for name in _TRUST if name in outputs}
    # These are told in px alone; of a picture that was not read the size is zero.
    sides = np.maximum(np.tile(outputs["size"][:, ::-1].astype(np.float64), (1, 2)), 1)
    arrays |= {name: outputs[name] / sides for name in _OUTER_BOXES if name in outputs}
    records = []
    for row, head in enumerate(heads):
        if not outputs["ok"][row]:
            records.append({**head, "reason": outputs["reason"][row].decode()})
            continue
        height, width = outputs["size"][row].tolist()
        answer = localization_of(
            arrays, row, (height, width), names, background=background, top_k=top_k
        )
        records.append({**head, **answer.as_dict()})
    return records
