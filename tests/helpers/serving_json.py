"""JSON of TF Serving's predict interface to tensors and back, by the rules of `json_tensor.cc`."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf


class JsonFault(Exception):
    """A request that the server answers with status 400."""


def request_from_json(body: bytes, inputs_of: Callable[[str], Mapping]):
    """Signature name, input `TensorProto`s by name, and whether the request came in rows.

    Args:
        body: The request.
        inputs_of: Gives the `TensorInfo`s of a signature's inputs by name.
    """
    if not body:
        raise JsonFault("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise JsonFault(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise JsonFault("JSON Value: Is not object")
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise JsonFault("'signature_name' key must be a string value.")
    infos = inputs_of(signature)
    if "instances" in document and "inputs" in document:
        raise JsonFault("expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return signature, _from_rows(document["instances"], infos), True
    if "inputs" in document:
        return signature, _from_columns(document["inputs"], infos), False
    raise JsonFault("Missing 'inputs' or 'instances' key")


def _is_b64(value) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_named(value) -> bool:
    return isinstance(value, dict) and not _is_b64(value)


def _from_rows(rows, infos) -> dict:
    if not isinstance(rows, list):
        raise JsonFault("Excepting 'instances' to be an list/array")
    if not rows:
        raise JsonFault("No values in 'instances' array")
    if any(_is_named(row) != _is_named(rows[0]) for row in rows):
        raise JsonFault("Expecting object or value at every item of input list")
    if not _is_named(rows[0]):
        (name,) = infos
        return {name: _tensor(rows, infos[name])}
    for number, row in enumerate(rows):
        if set(row) != set(infos):
            raise JsonFault(f"Failed to process element: {number}: keys must be {sorted(infos)}")
    return {name: _tensor([row[name] for row in rows], infos[name]) for name in infos}


def _from_columns(columns, infos) -> dict:
    if not _is_named(columns):
        (name,) = infos
        return {name: _tensor(columns, infos[name])}
    for name in infos:
        if name not in columns:
            raise JsonFault(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(columns[name], infos[name]) for name in infos}


def _tensor(values, info):
    """A `TensorProto` of nested lists, each value checked against the type of the input."""
    dtype = tf.as_dtype(info.dtype)
    shape: list[int] = []
    level = values
    while isinstance(level, list):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    leaves: list = []
    _collect(values, shape, dtype, leaves)
    if dtype == tf.string:
        tensor = tf.make_tensor_proto(np.zeros(0, object), tf.string, [0])
        tensor.string_val.extend(leaves)
    else:
        tensor = tf.make_tensor_proto(np.array(leaves, dtype.as_numpy_dtype))
    del tensor.tensor_shape.dim[:]
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def _collect(value, shape: list[int], dtype: tf.DType, leaves: list) -> None:
    if isinstance(value, list):
        if not shape or len(value) != shape[0]:
            raise JsonFault(f"Encountered list at unexpected size: {len(value)}")
        for one in value:
            _collect(one, shape[1:], dtype, leaves)
        return
    if shape:
        raise JsonFault("JSON Value found at incorrect level")
    leaves.append(_leaf(value, dtype))


def _leaf(value, dtype: tf.DType):
    wrong = JsonFault(f"JSON Value: {value!r:.60} is not of expected type: {dtype.name}")
    if dtype == tf.string:
        if _is_b64(value):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise JsonFault("Unable to base64 decode") from error
        if not isinstance(value, str):
            raise wrong
        return value.encode()
    if isinstance(value, bool) != (dtype == tf.bool) or not isinstance(value, bool | int | float):
        raise wrong
    if dtype.is_integer and not isinstance(value, int):
        raise wrong
    return value


def outputs_to_json(outputs: Mapping[str, np.ndarray], by_row: bool) -> str:
    """The answer to a request in rows or in columns."""
    columns = {name: _json_values(array, name) for name, array in outputs.items()}
    if not by_row:
        (one,) = columns.values() if len(columns) == 1 else (columns,)
        return json.dumps({"outputs": one})
    lengths = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(lengths) != 1 or None in lengths:
        raise JsonFault("Tensors in the answer have inconsistent batch sizes")
    if len(columns) == 1:
        (rows,) = columns.values()
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"predictions": rows})


def _json_values(array: np.ndarray, name: str):
    if array.dtype != object:
        # Through the shortest text of a float32: 0.2, not 0.20000000298023224.
        if array.dtype == np.float32:
            texts = np.array([float(str(one)) for one in array.ravel()])
            return texts.reshape(array.shape).tolist()
        return array.tolist()
    return _json_texts(array.tolist(), name.endswith("_bytes"))


def _json_texts(value, binary: bool):
    if isinstance(value, list):
        return [_json_texts(one, binary) for one in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", errors="replace")
