"""Random images, and the resizes of Pillow and PyTorch."""

import numpy as np
import torch
from PIL import Image


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, half of it black and white only, so that cubic overshoot is clipped."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (
        noise if seed % 2 else np.where(rng.random((height, width, 1)) < 0.5, noise, 255 * (noise > 127)).astype("u1")
    )


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Width, then height: the order of every Pillow before 13, and of later ones for most shapes."""
    height, width = size
    wide = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize((width, height), Image.Resampling.BICUBIC))


def torch_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].contiguous()
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
