"""How much of what `report.explanation` shows of a class lies in the true box of its object.

    python -m benchmarks.explanations --run RUN [--split test] [--out FOLDER]

For the answers of a run that have the right class: the share of the class map's mass in the true
box, beside that of a map that is even over the picture. Meant for digits on clutter, where only the
digit makes the class. With `--out` the first twelve pictures are drawn.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.cli.runs import load_run
from loc_keras.report.explanation import drawn_explanation, explainer

DRAWN = 12


def mass_in(box: np.ndarray, plane: np.ndarray) -> float:
    """Share of a plane (H, W) whose pixels lie, by their centres, in a box of fractions."""
    rows, columns = plane.shape
    y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    inside = np.outer((y > box[1]) & (y < box[3]), (x > box[0]) & (x < box[2]))
    return float(plane[inside].sum() / max(plane.sum(), 1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    run = load_run(args.run)
    explain = explainer(run.localizer)
    shares, even, drawn = [], [], 0
    for images, truth in run.held_out(args.split):
        answers = run.localizer.predict_on_batch(images)["softmax"].argmax(-1)
        right = answers == truth["softmax"].numpy()
        boxes = truth["bbox"].numpy()
        for image, own, box, good in zip(
            images.numpy(), explain(images), boxes, right, strict=True
        ):
            if not good:
                continue
            shares.append(mass_in(box, own.class_map))
            even.append(mass_in(box, np.ones_like(own.class_map)))
            if args.out and drawn < DRAWN:
                args.out.mkdir(parents=True, exist_ok=True)
                pixels = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)
                big = Image.fromarray(pixels).resize((400, 400))
                drawn_explanation(big, own, "stretch")[0].save(args.out / f"{drawn}.png")
                drawn += 1
    found = np.array(shares)
    print(
        f"{len(found):,} right answers: median share in the box {np.median(found):.3f}, "
        f"an even map {np.median(even):.3f}"
    )
    for least in (0.5, 0.8, 0.9):
        print(f"at least {least:.0%} of the mass in the box: {np.mean(found >= least):.1%} of them")


if __name__ == "__main__":
    main()
