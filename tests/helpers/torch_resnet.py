"""The ResNets of torchvision 0.x, written again in `torch.nn`: the reference for our own.

torchvision itself is not asked for: its wheels fit one version of PyTorch each. Modules have
torchvision's names, so that the state dict is the one of the shared weights. Run as a program
(`python tests/helpers/torch_resnet.py`, with PyTorch installed), this writes the features that
`test_pretrained_weights.py` holds against ours where PyTorch is not there.
"""

import json
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parent / "recorded" / "torch_resnet18_features.json"
EVERY = 16  # of the 512 features, so many are recorded

STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def torch_resnet(name: str):
    """A network with random weights and batch statistics that are far from 0 and 1."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels, planes, stride, expansion):
            super().__init__()
            out = planes * expansion
            if expansion == 1:
                self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
                self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
                self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
                self.parts = 2
            else:
                self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
                self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
                self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
                self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
                self.bn3 = nn.BatchNorm2d(out)
                self.parts = 3
            self.downsample = None
            if stride != 1 or channels != out:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
                )

        def forward(self, x):
            y = x
            for part in range(1, self.parts + 1):
                y = getattr(self, f"bn{part}")(getattr(self, f"conv{part}")(y))
                if part < self.parts:
                    y = y.relu()
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            expansion = 4 if name == "resnet50" else 1
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            channels = 64
            for stage, count in enumerate(STAGES[name]):
                blocks = []
                for block in range(count):
                    stride = 2 if stage > 0 and block == 0 else 1
                    blocks.append(Block(channels, 64 * 2**stage, stride, expansion))
                    channels = 64 * 2**stage * expansion
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(channels, 1000)

        def forward(self, x):
            """Pooled features, before `fc`."""
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
            return x.mean((2, 3))

    return ResNet().eval()


def seeded_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights and batch statistics for named shapes, the same on every machine and version.

    NumPy promises that the stream of `RandomState` never changes; the generators have no such
    promise. Convolutions keep the size of what passes through them; statistics are not trivial.
    """
    random = np.random.RandomState(seed)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) == 4:
            scale = (2 / np.prod(shape[1:])) ** 0.5
            values = random.standard_normal(shape) * scale
        elif name.endswith("running_var"):
            values = random.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            values = random.uniform(0.4, 0.9, shape)
        else:
            values = random.uniform(-0.3, 0.3, shape)
        state[name] = values.astype(np.float32)
    return state


def seeded_images(count: int, side: int, seed: int = 1) -> np.ndarray:
    """Smooth coloured pictures with noise, uint8 (count, side, side, 3)."""
    random = np.random.RandomState(seed)
    coarse = random.uniform(0, 256, (count, 8, 8, 3))
    place = np.arange(side) * 8 // side
    noise = random.uniform(-40, 40, (count, side, side, 3))
    return np.clip(coarse[:, place][:, :, place] + noise, 0, 255).astype(np.uint8)


def torch_features(network, images: np.ndarray) -> np.ndarray:
    """What the network makes of uint8 images, normalised as torchvision's recipe says."""
    import torch

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        pixels = (torch.from_numpy(images) / 255 - mean) / std
        parts = [network(part) for part in pixels.permute(0, 3, 1, 2).split(8)]
    return torch.cat(parts).numpy()


def seeded_network(name: str, seed: int = 0):
    """A network with seeded weights, and these as arrays by name."""
    import torch

    network = torch_resnet(name)
    shapes = {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith("fc.")
    }
    state = seeded_state(shapes, seed)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    return network, state


def record() -> None:
    """Writes names, shapes and features of the seeded ResNet18."""
    network, state = seeded_network("resnet18")
    features = {
        str(side): torch_features(network, seeded_images(2, side))[:, ::EVERY].tolist()
        for side in (224, 101, 100)
    }
    shapes = {name: list(values.shape) for name, values in state.items()}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps({"features": features, "shapes": shapes}) + "\n", "utf-8")


if __name__ == "__main__":
    record()
