"""What of trust is refused before a training, and what becomes of a model without it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.trust_examples import seen_by, write_noise
from PIL import Image
from rich.console import Console

from loc_keras.cli import folds, trust
from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config
from loc_keras.data.dataset import LocalizationData
from loc_keras.errors import ConfigError, TrustError
from loc_keras.models.weights import open_model
from loc_keras.trust.novelty import read_novelty, statistics
from loc_keras.trust.statements import guarantee_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of one class and 20 without an object, as CSV."""
    root = tmp_path_factory.mktemp("pictures")
    rest = """
    background: nothing
  image_size: 20
  split: {val: 0.1, test: 0, calibration: 0.4}
train: {batch_size: 4}
"""
    rows = (",,,,", "thing,0.1,0.2,0.5,0.8")
    write_noise(root, (20, 20), lambda number: rows[number % 2], rest)
    return root


def check(folder: Path, *overrides: str) -> None:
    config = load_config(folder / "config.yaml", list(overrides))
    trust.check_trust(config, DataSource(config).build())


def test_images_without_an_object_do_not_count_for_boxes(folder: Path) -> None:
    # 16 images are held back, half of them show an object. With n of these a coverage of n/(n+1)
    # can be promised: 8/9 with 8 (Vovk et al. 2005), .9 takes 9.
    with pytest.raises(TrustError, match=r"9 images with an object .* calibration split has 8;"):
        check(folder, "trust.coverage=0.9")
    check(folder, "trust.coverage=0.88")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trust.per_class=true", r"margins for each class \(trust\.per_class\) cannot be fitted"),
        ("trust.scaling=spread", r"'spread' needs model\.bbox_head 'distribution', not 'spatial'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_training(
    folder: Path, override: str, words: str
) -> None:
    with pytest.raises(TrustError, match=words):
        check(folder, "trust.coverage=0.8", "model.bbox_head=spatial", override)


def test_a_step_that_fails_leaves_a_model_to_export(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = keras.Input((4, 4, 1))
    best = keras.Model(image, keras.layers.Flatten()(image))
    config = load_config(folder / "config.yaml")
    data = DataSource(config).build()

    def fail(*_: object) -> None:
        raise TrustError("too few.")

    monkeypatch.setattr(trust, "calibrate_model", fail)
    result = trust.add_trust(config, data, Path(), Path(), best)
    assert (result.trust, result.card) == (None, None)
    assert str(result.error) == "there is no trust with this model: too few."
    plain = replace(data, calibration=None)
    assert trust.add_trust(config, plain, Path(), Path(), best).error is None


def test_novelty_goes_by_images_that_suffice_for_its_level(folder: Path, tmp_path: Path) -> None:
    # Of 40 images 16 are for calibration, 4 for validation. 16 can say 1/17 at least.
    data = DataSource(load_config(folder / "config.yaml")).build()
    (tmp_path / "best.keras").touch()

    def fitted(level: float, data: LocalizationData) -> tuple[str, list[int]]:
        config = load_config(folder / "config.yaml", [f"trust.novelty_level={level}"])
        novelty, card = trust.add_novelty(tmp_path, tmp_path / "best.keras", data, config)
        assert read_novelty(tmp_path / "novelty.json", tmp_path / "best.keras") == novelty
        counts = [len(fold.distances) for fold in novelty.folds]
        assert card == {"level": level, f"{novelty.split}_images": sum(counts)}
        assert novelty.training_images == 20
        return novelty.split, counts

    assert fitted(0.06, data) == ("calibration", [16])
    assert fitted(0.05, data) == ("train", [4] * 5)
    rest = replace(data, calibration=None, sizes={**data.sizes, "calibration": 0})
    assert fitted(0.06, rest) == ("train", [4] * 5)
    train = data.pictures["train"]
    assert train.records is not None
    for records in (None, replace(train.records, groups=np.array(["a"] * 17 + ["b"] * 3))):
        pictures = {**data.pictures, "train": replace(train, records=records)}
        assert fitted(0.02, replace(rest, pictures=pictures)) == ("val", [4])


def test_near_duplicates_and_groups_stay_in_one_fold(folder: Path) -> None:
    data = DataSource(load_config(folder / "config.yaml")).build()
    train = data.pictures["train"]
    assert train.records is not None
    names = np.array([f"{number // 2}" for number in range(20)])
    paired = replace(train, records=replace(train.records, groups=names))
    data = replace(data, pictures={**data.pictures, "train": paired})
    found, folds = trust._training_statistics(data, cut=True)
    # In the order of records, whatever that of the stream: the statistics of each very picture.
    pixels = [np.asarray(Image.open(path)) for path in train.paths]
    np.testing.assert_allclose(found, np.asarray(statistics(np.stack(pixels))), rtol=1e-4)
    assert sorted(np.concatenate(folds).tolist()) == list(range(20))
    for rows in folds:
        assert set(rows.tolist()) == {row ^ other for row in rows.tolist() for other in (0, 1)}


CROSS = ("trust.method=cross", "data.split.calibration=0", "data.split.val=0.2")


def test_cross_is_refused_where_it_cannot_be_had(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs no images held back, and .* is 0\.4"):
        load_config(folder / "config.yaml", ["trust.method=cross"])
    # 32 images are left for training, 16 show an object: .95 takes 19.
    with pytest.raises(TrustError, match=r"19 images with an object .* train split has 16; raise"):
        check(folder, *CROSS, "trust.coverage=0.95")
    check(folder, *CROSS)
    config = load_config(folder / "config.yaml", list(CROSS))
    data = DataSource(config).build()
    drawn = {split: replace(one, records=None) for split, one in data.pictures.items()}
    with pytest.raises(TrustError, match=r"those of csv are drawn; set trust\.method to split"):
        trust.check_trust(config, replace(data, pictures=drawn))


def test_every_training_image_is_answered_by_a_model_without_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(
        folder / "config.yaml", [*CROSS, "trust.folds=4", "train.epochs=20", "trust.fold_length=.2"]
    )
    data = DataSource(config).build()
    trained: list[set[str]] = []

    def note(localizer: None, *, sources, plan, folder: Path, **_: object):
        assert plan.train.epochs == 4  # A fifth of 20.
        trained.append({name for step in range(6) for name in sources(step)})
        return SimpleNamespace(best_path=folder / "best.keras")

    def answer(_: object, dataset, pictures, background: int | None):
        assert background == data.background
        # A new image of the fold would have the same pixels; here its number is its brightness.
        pixels = np.concatenate([images.numpy() for images, _ in dataset])
        found = seen_by(np.random.default_rng(len(trained)), len(pixels))
        of = [name for name, own in numbers.items() for image in pixels if (image == own).all()]
        assert len(of) == len(pixels)
        assert not set(of) & trained[-1]
        asked.append(set(of))
        answered.extend(of)
        return found

    numbers = {
        f"{number}.png": np.asarray(Image.open(folder / "images" / f"{number}.png"))
        for number in range(40)
    }
    answered: list[str] = []
    asked: list[set[str]] = []
    monkeypatch.setattr(folds, "fit_localizer", note)
    monkeypatch.setattr(folds, "localizer_from", lambda *_: None)
    monkeypatch.setattr(folds, "open_model", lambda path: path.parent.name)
    shared = SimpleNamespace(localizer=None, become=lambda other: None)
    monkeypatch.setattr(folds, "SharedLocalizer", lambda _: shared)
    monkeypatch.setattr(folds, "observing", lambda *_, **__: None)
    monkeypatch.setattr(folds, "collect_outcomes", answer)
    monkeypatch.setattr(folds, "observer", lambda model: model)
    monkeypatch.setattr(folds, "fold_ensemble", lambda models: models)
    found, of_fold, models = folds.out_of_fold(config, data, tmp_path, Console(quiet=True), 0.0)
    names = [str(name) for name in data.pictures["train"].names]
    assert len(found) == len(names) == 32
    # In the order of the images, however the folds were dealt out.
    assert np.bincount(of_fold).tolist() == [8] * 4
    where = {name: fold for fold, part in enumerate(asked) for name in part}
    assert of_fold.tolist() == [where[name] for name in names]
    assert models == ["1", "2", "3", "4"]
    assert sorted(answered) == sorted(names)
    assert [len(own) for own in trained] == [24] * 4
    assert not set().union(*trained) & {str(name) for name in data.pictures["val"].names}


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_folds_answer_as_their_saved_models_in_float32(folder: Path, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    sets = ["trust.folds=2", "train.epochs=1", "train.warmup_epochs=0", "model.backbone.width=4"]
    config = load_config(folder / "config.yaml", [*CROSS, *sets])
    data = DataSource(config).build()
    found = folds.out_of_fold(config, data, tmp_path, Console(quiet=True), 0.0)
    paths = data.pictures["train"].paths
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32)
    for number in (0, 1):
        saved = tmp_path / "folds" / str(number + 1) / "best.keras"
        rows = found.folds == number
        of_ensemble = found.models(pixels[rows], training=False)
        for name, value in open_model(saved).predict(pixels[rows], verbose=0).items():
            np.testing.assert_allclose(found.outcomes.outputs[name][rows], value, atol=1e-6)
            np.testing.assert_allclose(of_ensemble[f"{name}_folds"][:, number], value, atol=1e-6)
        # What was trained says something else.
        own = keras.saving.load_model(saved)(pixels[rows], training=False)["bbox"]
        assert np.abs(own - found.outcomes.outputs["bbox"][rows]).max() > 1e-4


def test_a_file_says_what_is_proven_and_what_is_not() -> None:
    assert guarantee_words("split", 0.9).startswith("Proven for 90 %")
    words = guarantee_words("cross", 0.9, 5)
    # 1 - 2 alpha with alpha = .1 (Barber et al. 2021, theorem 4).
    assert words.startswith("Proven for 80 %") and "5 models" in words and "the asked 90 %" in words
    assert guarantee_words("cross", 0.4, 5).startswith("Proven for 0 %")
