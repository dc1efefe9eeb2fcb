#!/usr/bin/env bash
# tensorflow-datasets 4.9.10 imports importlib_resources when a builder looks for its own files, but
# requires it for Python below 3.9 alone. It used to come with etils[epath]; etils 1.15.0 has no such
# requirement, so in a fresh environment `import tensorflow_datasets` works and a builder does not.
set -euo pipefail
folder="$(mktemp -d)"; trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "tensorflow==2.21.0" "tensorflow-datasets==4.9.10" "etils==1.15.0"
cat > "$folder/build.py" <<'PY'
import importlib.metadata as metadata
import sys
import tempfile

import tensorflow_datasets as tfds

for name in ("tensorflow-datasets", "etils"):
    print(name, metadata.version(name))
print([line for line in metadata.requires("tensorflow-datasets") if "importlib" in line])


class Squares(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"x": tfds.features.Scalar("int64")}))

    def _split_generators(self, manager):
        return {"train": ((i, {"x": i}) for i in range(3))}

    def _generate_examples(self):
        yield from ()


try:
    Squares(data_dir=tempfile.mkdtemp()).download_and_prepare()
except ModuleNotFoundError as error:
    print("ModuleNotFoundError:", error)
    sys.exit(0 if error.name == "importlib_resources" else 1)
print("a builder works: the behaviour has changed")
sys.exit(1)
PY
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" "$folder/build.py" 2> /dev/null
echo "as described: the missing requirement shows when a builder is made"
