"""Random weights for the PyTorch original, in every tensor, that keep its outputs alive.

An untrained network hides wiring: its layer scales start at 1e-6 and the last norm of each block at 0. Plain random
weights hide it too, once they make masks constant or every object absent. So each tensor is drawn at random, and then
a few are rescaled from what a forward pass shows.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MASK_SPAN = 45.0  # the largest mask logit on the images below; about 35 on photographs, as in trained networks
SPREAD = 1.0  # standard deviation of object scores and IoU logits
IMAGES, PROMPTS, SIZE = 16, 4, 128  # that outputs are measured on: images, prompts for each, pixels a side


@torch.no_grad()
def randomize(model: Any, seed: int) -> Any:
    """Fills every tensor of the original `model` in place, and returns it.

    Over a batch of different prompts about half of the objects are present, and about half of the single masks are
    stable, so that both sides of either decision are seen.
    """
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        _fill(module, random)
    images = _images(random)
    _settle_batch_norms(model, images, random)
    _settle_neck(model, images)
    _settle_heads(model, images, random)
    return model


def _fill(module: nn.Module, random: torch.Generator) -> None:
    def normal(tensor: Tensor, std: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=random) * std)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=random))

    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for name, tensor in own.items():
        if name == "num_batches_tracked":
            tensor.copy_(torch.randint(1, 1000, (), generator=random))
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and name == "weight":
            # A transposed convolution of stride 2 and size 2 reaches each output pixel once, from all inputs.
            inputs = tensor.shape[0] if isinstance(module, nn.ConvTranspose2d) else tensor[0].numel()
            normal(tensor, inputs**-0.5)
        elif name == "bias":
            normal(tensor, 0.2)
        elif name in ("weight", "running_var") and tensor.ndim == 1:
            uniform(tensor, 0.5, 1.5)
        elif name == "gamma":
            uniform(tensor, 0.2, 0.6)
        elif name in ("no_mem_embed", "no_mem_pos_enc", "maskmem_tpos_enc"):
            normal(tensor, 0.4)
        else:
            normal(tensor, 1.0)


def _images(random: torch.Generator) -> Tensor:
    """Normalised images, from smooth as photographs to pure noise. They are small: the encoder takes any size."""
    images = torch.zeros(IMAGES, 3, SIZE, SIZE)
    falloff = 0.4 + 1.6 * torch.rand(IMAGES, 1, 1, 1, generator=random)
    side, weight = 2, torch.ones_like(falloff)
    while side <= SIZE:
        octave = torch.randn(IMAGES, 3, side, side, generator=random)
        images += weight * nn.functional.interpolate(octave, size=(SIZE, SIZE), mode="bicubic")
        side, weight = 2 * side, weight * falloff
    return images / images.std((1, 2, 3), keepdim=True)


def _settle_batch_norms(model: Any, images: Tensor, random: torch.Generator) -> None:
    """Stored statistics near those of real activations, else fourteen residual blocks overflow or vanish."""

    def settle(norm: Any, inputs: tuple[Tensor]) -> None:
        var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        var = var.clamp(min=0.1 * float(var.mean()))
        norm.running_mean.copy_(mean + 0.3 * var.sqrt() * torch.randn(mean.shape, generator=random))
        norm.running_var.copy_(var * (0.6 + torch.rand(var.shape, generator=random)))

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    model.image_encoder.trunk(images)
    for hook in hooks:
        hook.remove()


def _settle_neck(model: Any, images: Tensor) -> None:
    """Unit variance of all that leaves the image encoder."""
    convs = model.image_encoder.neck.convs
    for lateral, stage in zip(convs, model.image_encoder.trunk(images)[::-1], strict=True):
        _scale(lateral.conv, 1 / float(lateral(stage).std()))
    level2 = model.image_encoder(images)["backbone_fpn"][2]
    for lateral in convs[:2]:  # the two that level 2 adds up
        _scale(lateral.conv, 1 / float(level2.std()))


def _settle_heads(model: Any, images: Tensor, random: torch.Generator) -> None:
    decoder = model.sam_mask_decoder
    heads = [decoder.iou_prediction_head.layers[-1], decoder.pred_obj_score_head.layers[-1]]
    inputs: list[Tensor] = []
    hooks = [head.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for head in heads]
    masks = _decode(model, images, random)
    for hook in hooks:
        hook.remove()
    for head, features in zip(heads, inputs, strict=True):
        _balance(head, features)
    for token in range(4):
        span = MASK_SPAN / float(masks[:, token].abs().max())
        if token == 0:
            span = min(1.5 * span, _half_stable(masks[:, 0], decoder))
        _scale(decoder.output_hypernetworks_mlps[token].layers[-1], span)


def _decode(model: Any, images: Tensor, random: torch.Generator) -> Tensor:
    """All four masks, for each image with several prompts of three points."""
    stride4, stride8, embedding = model.forward_image(images)["backbone_fpn"]
    embedding[::2] += model.no_mem_embed.reshape(1, -1, 1, 1)  # mask prompts go without
    stride4, stride8, embedding = (x.repeat_interleave(PROMPTS, 0) for x in (stride4, stride8, embedding))
    points = torch.rand(IMAGES * PROMPTS, 3, 2, generator=random) * model.image_size
    labels = torch.randint(-1, 4, (IMAGES * PROMPTS, 3), generator=random)
    prompts = model.sam_prompt_encoder
    sparse, _ = prompts(points=(points, labels), boxes=None, masks=None)
    return model.sam_mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=prompts.pe_layer(embedding.shape[-2:])[None],
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding),
        repeat_image=False,
        high_res_features=[stride4, stride8],
    )[0]


def _balance(head: nn.Linear, features: Tensor) -> None:
    """Centres a head's outputs on zero, and lets them follow the prompt rather than the image.

    Image means differ far more than prompts do: left alone, all objects of an image would share one sign. At most half
    of the directions go: in small networks the others are little but rounding, which scaled up differs by processor.
    """
    means = features.reshape(IMAGES, PROMPTS, -1).mean(1)
    count = min(IMAGES - 1, features.shape[-1] // 2)
    image_axes = torch.linalg.svd(means - means.mean(0), full_matrices=False)[2][:count]
    head.weight.sub_(head.weight @ image_axes.T @ image_axes)
    outputs = head(features)
    _scale(head, SPREAD / float(outputs.std(0).mean()))
    head.bias.sub_(head(features).median(0).values)


def _half_stable(masks: Tensor, decoder: Any) -> float:
    """The factor on single masks that puts their median stability at the threshold."""
    flat = masks.flatten(1).numpy()

    def stability(factor: float) -> float:
        delta = decoder.dynamic_multimask_stability_delta / factor
        inner, outer = (flat > delta).sum(1), (flat > -delta).sum(1)
        return float(np.median(np.where(outer > 0, inner / np.maximum(outer, 1), 1.0)))

    low, high = 1e-3, 1e3
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if stability(middle) < decoder.dynamic_multimask_stability_thresh else (low, middle)
    return high


def _scale(layer: Any, factor: float) -> None:
    """Scales a linear layer's or convolution's output."""
    layer.weight.mul_(factor)
    layer.bias.mul_(factor)
