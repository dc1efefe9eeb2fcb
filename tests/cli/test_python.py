"""Training from Python, and what a run shows in a notebook."""

import json

import pytest
from helpers.empty_images import samples, write_set

import loc_keras
from loc_keras import Localizer
from loc_keras.commands.python import Run
from loc_keras.errors import ConfigError, ModelError, TrainingError


def small(folder, **more):
    """A training of seconds on drawn squares."""
    settings = {
        "data.image_size": 32,
        "model.backbone.width": 4,
        "model.backbone.weights": "none",
        "train.steps_per_epoch": 2,
        "train.folds": 0,
        "trust.method": "split",
        "export.enabled": False,
    }
    return loc_keras.train(
        folder, run_dir=folder.parent / "run", epochs=1, batch=8, settings=settings | more
    )


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_a_folder_is_trained_on_and_the_run_measured(tmp_path):
    write_set(tmp_path / "set", "voc", samples(objects=24, empty=0))
    run = small(tmp_path / "set")
    assert run.folder == tmp_path / "run"
    assert run.metrics == json.loads((run.folder / "metrics.json").read_text())
    picture = next((tmp_path / "set").rglob("*.png"))
    assert run.localizer.predict(picture).label in {"blue", "red"}
    found = run.evaluate()
    assert found == json.loads((run.folder / "evaluation/test/metrics.json").read_text())
    assert (run.folder / "evaluation/test/report.html").is_file()
    measured = run.localizer.evaluate(split="val")
    assert measured == json.loads((run.folder / "evaluation/val/metrics.json").read_text())
    run.localizer.export(tmp_path / "served")
    served = Localizer.load(tmp_path / "served")
    assert served.predict(picture).box == pytest.approx(
        run.localizer.predict(picture).box, abs=0.01
    )
    with pytest.raises(ModelError, match=r"served.* is not the best model of a run; open the run"):
        served.evaluate()
    shown = run._repr_html_()
    assert f"{100 * run.metrics['test']['top1_loc']:.2f}" in shown
    assert "data:image/png;base64," in shown


def test_wrong_arguments_are_errors_of_ours(tmp_path):
    with pytest.raises(TrainingError, match="one of the two"):
        loc_keras.train()
    with pytest.raises(TrainingError, match="takes no epoch; everyday settings are epochs, batch"):
        loc_keras.train(config="base", epoch=3)
    with pytest.raises(ConfigError, match=r"did you mean 'train.optimizer'\?"):
        loc_keras.train(config="base", run_dir=tmp_path / "run", settings={"train.optimiser": 1})
    with pytest.raises(TrainingError, match="an argument is wrong"):
        loc_keras.train(config="base", run_dir=tmp_path / "run", epochs=0)


def test_a_run_is_opened_by_its_folder(tmp_path):
    (tmp_path / "runs" / "photos").mkdir(parents=True)
    assert Run(str(tmp_path / "runs" / "photos")).folder == tmp_path / "runs" / "photos"
    with pytest.raises(ModelError, match=r"nowhere does not exist; give the folder of a run"):
        Run(tmp_path / "nowhere")


def test_a_run_without_pictures_shows_its_figures(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"images": 3, "top1_loc": 0.5}}))
    shown = Run(tmp_path)._repr_html_()
    assert shown.startswith("<pre>")
    assert "50.0" in shown
    assert "<img" not in shown
