"""A process that trains with PyTorch as the original notebook did, and times its own steps.

Started by `benchmarks.against_pytorch` with a folder, a way and a batch size; it needs torch, numpy
and Pillow alone, and answers as in `timed_steps`. The network is ResNet18 (He et al. 2016) without
its last layer, whose pooled features feed a linear classifier and a regressor of 128, 64, 32 and 4
units; the loss is cross-entropy plus 1 - IoU. Images are read one at a time by Pillow and resized.
"""

import csv
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.timed_steps import answer

SIDE, CLASSES = 224, 10


class Pictures(Dataset):
    """Images of `training_data.csv`: file, class, corners in fractions; decoded one at a time."""

    def __init__(self, folder: Path) -> None:
        with (folder / "training_data.csv").open() as file:
            self.rows = list(csv.reader(file))
        self.folder = folder / "training_images"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        name, label, *corners = self.rows[index]
        with Image.open(self.folder / name) as file:
            image = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        return pixels, int(label), torch.tensor([float(corner) for corner in corners])


class Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
            if stride > 1 or inner != outer
            else nn.Identity()
        )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + self.shortcut(x))


class Localizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inner = 64
        for outer in (64, 128, 256, 512):
            layers += [Block(inner, outer, 1 if outer == inner else 2), Block(outer, outer, 1)]
            inner = outer
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.softmax = nn.Linear(512, CLASSES)
        units = (512, 128, 64, 32)
        dense = [part for a, b in pairwise(units) for part in (nn.Linear(a, b), nn.ReLU())]
        self.bbox = nn.Sequential(*dense, nn.Linear(32, 4), nn.Sigmoid())

    def forward(self, x: Any) -> tuple[Any, Any]:
        features = self.body(x)
        return self.softmax(features), self.bbox(features)


def iou_loss(box: Any, other: Any) -> Any:
    low, high = torch.maximum(box[:, :2], other[:, :2]), torch.minimum(box[:, 2:], other[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    areas = [(one[:, 2:] - one[:, :2]).clamp(min=0).prod(1) for one in (box, other)]
    return (1 - inter / (areas[0] + areas[1] - inter + 1e-7)).mean()


def batches(folder: Path, batch: int, workers: int) -> Iterator[Any]:
    loader = DataLoader(Pictures(folder), batch, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        yield from loader


def main() -> None:
    folder, way, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    loaders = re.search(r"(\d) loader", way)
    torch.manual_seed(0)
    plain = Localizer()
    if "channels last" in way:
        plain = plain.to(memory_format=torch.channels_last)
    model = torch.compile(plain) if "compiled" in way else plain
    optimizer = torch.optim.Adam(plain.parameters(), 1e-3)
    source = batches(folder, batch, int(loaders[1]) if loaders else 0)

    def step() -> None:
        images, labels, boxes = next(source)
        if "channels last" in way:
            images = images.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in way):
            logits, found = model(images)
        loss = nn.functional.cross_entropy(logits.float(), labels) + iou_loss(found.float(), boxes)
        loss.backward()
        optimizer.step()
        loss.item()

    answer(step, batch)


if __name__ == "__main__":
    main()
