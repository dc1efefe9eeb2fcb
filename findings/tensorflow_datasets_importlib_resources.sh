#!/usr/bin/env bash
# tensorflow-datasets 4.9.10 imports importlib_resources when a builder makes its data set, but
# requires it for Python below 3.9 alone. It used to come with etils[epath]; etils 1.15.0 has no such
# requirement, so in a fresh environment `import tensorflow_datasets` works and a builder does not.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0" "tensorflow-datasets==4.9.10" "etils==1.15.0"
mkdir "$folder/squares"; touch "$folder/squares/__init__.py"
cat > "$folder/squares/squares_dataset_builder.py" <<'PY'
import numpy as np
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int64)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            yield i, {"x": i}
PY
cat > "$folder/build.py" <<'PY'
import importlib.metadata as metadata
import sys
import tempfile

from squares.squares_dataset_builder import Builder

for name in ("tensorflow-datasets", "etils"):
    print(name, metadata.version(name))
print([line for line in metadata.requires("tensorflow-datasets") if "importlib" in line])
try:
    Builder(data_dir=tempfile.mkdtemp()).download_and_prepare()
except ModuleNotFoundError as error:
    print("ModuleNotFoundError:", error)
    sys.exit(0 if error.name == "importlib_resources" else 1)
print("a builder works: the behaviour has changed")
sys.exit(1)
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" "$folder/build.py" 2> /dev/null
echo "as described: the missing requirement shows when a builder makes its data"
