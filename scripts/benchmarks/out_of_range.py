"""Pictures that the face generator cannot make exactly, at its size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from latent_inv.errors import AssetError
from latent_inv.generators.eyes import CLASSES, Eyes
from latent_inv.generators.faces import Faces
from latent_inv.images import Picture, load
from latent_inv.outline import fit_picture
from latent_inv.seeding import stream

#: the first so many of `lfw_subset` are faces, the others are not
_LFW_FACES = 100


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
    generator = Eyes.load(torch.device("cpu"), torch.float32)
    random = stream(seed, "painted eyes")
    z = torch.randn(count, 100, generator=random)
    classes = torch.randint(len(CLASSES), (count,), generator=random)
    labels = nn.functional.one_hot(classes, len(CLASSES)).float()
    with torch.no_grad():
        images = generator({"z": z, "class": labels})
    return images.clamp(-1, 1)
