"""Pictures that the face generator cannot make exactly, at its size."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from latent_inv.assets import fetch, load_checkpoint
from latent_inv.errors import AssetError
from latent_inv.generators.faces import Faces
from latent_inv.images import Picture, load
from latent_inv.outline import fit_picture
from latent_inv.seeding import stream

#: the first so many of `lfw_subset` are faces, the others are not
_LFW_FACES = 100
_EYE_CLASSES = 8


def pictures(seed: int, *, faces: int = 8, eyes: int = 4) -> dict[str, Picture]:
    """Grey faces of 25 × 25 pixels, an astronaut, painted eyes: name -> picture of 64 × 64.

    Args:
        seed: which faces and eyes. Painted eyes are left out, with a word, where their weights cannot be had.
    """
    from skimage.data import astronaut, lfw_subset

    from scripts.demo import PHOTO_CROP

    grey = lfw_subset()
    chosen = np.random.default_rng(seed).choice(_LFW_FACES, faces, replace=False)
    found = {"astronaut": fit_picture(Faces, load(astronaut()), PHOTO_CROP)[0]}
    for index in chosen:
        picture = load(grey[index].astype(np.float32), value_range=(0, 1))
        found[f"grey face {index}"] = fit_picture(Faces, picture, None)[0]
    try:
        for index, image in enumerate(painted_eyes(seed, eyes)):
            found[f"painted eye {index}"] = fit_picture(Faces, load(image, value_range=(-1, 1)), None)[0]
    except AssetError as error:
        print(f"    painted eyes are left out: {error}", flush=True)
    return found


def painted_eyes(seed: int, count: int) -> Tensor:
    """Samples of the generator `eyes`, [count, 3, 128, 128] in [-1, 1].

    Raises:
        AssetError: its weights cannot be had.
    """
    state = load_checkpoint(fetch("eyes"))
    network = _eyes_network()
    network.load_state_dict(OrderedDict((name.removeprefix("main."), value) for name, value in state.items()))
    random = stream(seed, "painted eyes")
    z = torch.randn(count, 100, generator=random)
    classes = torch.randint(_EYE_CLASSES, (count,), generator=random)
    labels = nn.functional.one_hot(classes, _EYE_CLASSES).float()
    with torch.no_grad():
        images: Tensor = network.eval()(torch.cat([z, labels], 1)[:, :, None, None])
    return images.clamp(-1, 1)


def _eyes_network() -> nn.Sequential:
    """A DCGAN for 128 × 128 with the class beside z; what has no weights stands where the saved names leave room."""
    layers: list[nn.Module] = []
    channels = 100 + _EYE_CLASSES
    for index, factor in enumerate((16, 8, 4, 2, 1)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(channels, 64 * factor, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(64 * factor), nn.ReLU()]
        layers += [nn.Dropout(0.2)] if index == 0 else []
        channels = 64 * factor
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())
