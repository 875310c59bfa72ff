"""The PyTorch original and the Hugging Face port as `networks.Network`s."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional as tf

from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import to_layout
from edgetam_jax.config import Config
from edgetam_jax.model import Model
from edgetam_jax.types import ImageFeatures, Label, Memory, ObjectPrediction
from tests.parity.networks import Clicks, Encoded
from tests.parity.pairs import channels_first, channels_last
from tests.support import oracle


class _Torch:
    """What both references share: how they name a module is all that differs."""

    def __init__(self, module: Any, config: Config, perceiver_position: Any, temporal: torch.Tensor) -> None:
        self.module, self.config = module, config
        self._position, self._temporal = perceiver_position, temporal

    def memory_map(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any:
        return _last(self._remember(embedding, logits, from_prompt)[0])

    def encode_memory(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any:
        return self._remember(embedding, logits, from_prompt)[1].numpy()

    def _remember(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> tuple[Any, Any]:
        """The memory encoder's map, and the perceiver's tokens."""
        seen: list[Any] = []
        hook = self.module.memory_encoder.register_forward_hook(lambda _, __, output: seen.append(output))
        large = tf.interpolate(
            _tensor(logits)[:, None], size=(self.config.image_size,) * 2, mode="bilinear", align_corners=False
        )
        tokens = self._encode_new_memory(_sequence(embedding).expand(-1, len(large), -1), large, from_prompt)
        hook.remove()
        maps = [output["vision_features"] if isinstance(output, dict) else output[0] for output in seen]
        return torch.cat(maps), tokens

    def _encode_new_memory(self, embedding: torch.Tensor, large: torch.Tensor, from_prompt: bool) -> torch.Tensor:
        raise NotImplementedError

    def _memory_tokens(self, memory: Memory) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """The valid entries: tokens [N, O, D], their positions, and how many pointer tokens and frames there are."""
        tokens, rows = (_tensor(x)[:, np.asarray(memory.frames_valid[0])] for x in (memory.frames, memory.rows))
        objects, frames, _, dim = tokens.shape
        grid, latents = self.config.perceiver.window_grid, self.config.perceiver.latents
        sine = channels_last(self._position(torch.zeros(1, dim, grid, grid)))
        place = torch.cat([torch.zeros(latents, dim), sine.reshape(-1, dim)])
        time = self._temporal[rows].reshape(objects, frames, 1, dim)
        pointers = _tensor(memory.pointers)[:, np.asarray(memory.pointers_valid[0])].reshape(objects, -1, dim)
        values = torch.cat([tokens.reshape(objects, -1, dim), pointers], 1)
        positions = torch.cat([(place + time).reshape(objects, -1, dim), 0 * pointers], 1)
        return values.transpose(0, 1), positions.transpose(0, 1), pointers.shape[1], frames

    def _map(self, sequence: torch.Tensor) -> np.ndarray:
        """[O, H * W, C] as a map."""
        return sequence.reshape(len(sequence), self.config.embedding_size, self.config.embedding_size, -1).numpy()


class Original(_Torch):
    def __init__(self, module: Any, config: Config) -> None:
        super().__init__(module, config, module.spatial_perceiver.position_encoding, module.maskmem_tpos_enc)
        self.score_bias = module.sam_mask_decoder.pred_obj_score_head.layers[-1].bias

    def encode_image(self, pixels: ArrayLike) -> ImageFeatures:
        stride4, stride8, embedding = self.module.forward_image(channels_first(pixels))["backbone_fpn"]
        return ImageFeatures(_last(embedding), _last(stride4), _last(stride8))

    def add_no_memory_embedding(self, embedding: ArrayLike) -> Any:
        return (_tensor(embedding) + self.module.no_mem_embed).numpy()

    def attend(self, embedding: ArrayLike, memory: Memory) -> Any:
        values, positions, pointers, frames = self._memory_tokens(memory)
        image = channels_first(embedding)
        attended = self.module.memory_attention(
            curr=[_sequence(embedding)],
            curr_pos=[self.module.image_encoder.neck.position_encoding(image).flatten(2).permute(2, 0, 1)],
            memory=values,
            memory_pos=positions,
            num_obj_ptr_tokens=pointers,
            num_spatial_mem=frames,
        )
        return self._map(attended.transpose(0, 1))

    def encode_prompt(self, clicks: Clicks) -> Encoded:
        encoder = self.module.sam_prompt_encoder
        tokens, dense = encoder((_tensor(clicks.points), _tensor(clicks.labels)), None, _masks(clicks))
        return Encoded(tokens.numpy(), _last(dense), _last(encoder.get_dense_pe())[0])

    def segment_object(self, features: ImageFeatures, clicks: Clicks, multimask: bool) -> ObjectPrediction:
        objects = len(clicks.labels)
        points = {"point_coords": _tensor(clicks.points), "point_labels": _tensor(clicks.labels)}
        _, _, ious, low_res, _, pointer, score = self.module._forward_sam_heads(
            backbone_features=channels_first(features.embedding),
            point_inputs=points if clicks.labels.size else None,
            mask_inputs=_masks(clicks),
            high_res_features=_high_resolution(features, objects),
            multimask_output=multimask,
        )
        return ObjectPrediction(
            low_res[:, 0].numpy(), ious.max(-1).values.numpy(), score[:, 0].numpy(), pointer.numpy()
        )

    def use_mask_as_output(self, features: ImageFeatures, masks: ArrayLike) -> ObjectPrediction:
        masks = _tensor(masks)[:, None]
        embedding = channels_first(features.embedding).expand(len(masks), -1, -1, -1)
        _, _, ious, low_res, _, pointer, score = self.module._use_mask_as_output(
            embedding, _high_resolution(features, len(masks)), masks
        )
        return ObjectPrediction(low_res[:, 0].numpy(), ious[:, 0].numpy(), score[:, 0].numpy(), pointer.numpy())

    def _encode_new_memory(self, embedding: torch.Tensor, large: torch.Tensor, from_prompt: bool) -> torch.Tensor:
        size = self.config.embedding_size
        score = torch.ones(len(large), 1)
        return self.module._encode_new_memory([embedding], [(size, size)], large, score, from_prompt)[0]


class HuggingFace(_Torch):
    """It differs from the original in what it does with a given mask, so `accept` is left out."""

    def __init__(self, model: Model) -> None:
        module = oracle.build_hf(model.config)
        tensors = to_layout(model.params, Layout.HUGGING_FACE)
        module.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, strict=True
        )
        temporal = module.memory_temporal_positional_encoding
        sine = module.spatial_perceiver.positional_encoding
        super().__init__(module, model.config, lambda x: sine(x.shape, x.device, x.dtype), temporal)
        self.score_bias = module.mask_decoder.pred_obj_score_head.proj_out.bias

    def encode_image(self, pixels: ArrayLike) -> ImageFeatures:
        maps = self.module.get_image_features(channels_first(pixels), return_dict=True).fpn_hidden_states
        sides = [scale * self.config.embedding_size for scale in (4, 2, 1)]
        maps = (x.transpose(0, 1).reshape(x.shape[1], side, side, -1) for x, side in zip(maps, sides, strict=True))
        maps = (x.numpy() for x in maps)
        stride4, stride8, embedding = maps
        return ImageFeatures(embedding, stride4, stride8)

    def add_no_memory_embedding(self, embedding: ArrayLike) -> Any:
        return (_tensor(embedding) + self.module.no_memory_embedding).numpy()

    def attend(self, embedding: ArrayLike, memory: Memory) -> Any:
        values, positions, pointers, frames = self._memory_tokens(memory)
        neck = self.module.vision_encoder.neck.position_encoding
        image = channels_first(embedding)
        attended = self.module.memory_attention(
            current_vision_features=_sequence(embedding),
            current_vision_position_embeddings=neck(image.shape, image.device, image.dtype).flatten(2).permute(2, 0, 1),
            memory=values,
            memory_posision_embeddings=positions,
            num_object_pointer_tokens=pointers,
            num_spatial_memory_tokens=frames,
        )
        return self._map(attended[0])

    def encode_prompt(self, clicks: Clicks) -> Encoded:
        points, labels = (_tensor(x)[:, None] for x in (clicks.points, clicks.labels))
        tokens, dense = self.module.prompt_encoder(points, labels, None, _masks(clicks))
        position = self.module.get_image_wide_positional_embeddings()
        return Encoded(tokens[:, 0].numpy(), _last(dense), _last(position)[0])

    def segment_object(self, features: ImageFeatures, clicks: Clicks, multimask: bool) -> ObjectPrediction:
        one_by_one = (self._find(features, n, clicks, multimask) for n in range(len(clicks.labels)))
        return ObjectPrediction(*(torch.stack(parts).numpy() for parts in zip(*one_by_one, strict=True)))

    def _find(self, features: ImageFeatures, n: int, clicks: Clicks, multimask: bool) -> ObjectPrediction:
        """A lone box goes in as one; with clicks it has to be two points, as in the port's video sessions."""
        points, labels = (_tensor(x[n])[None, None] for x in (clicks.points, clicks.labels))
        box = bool(labels.numel()) and bool((labels >= Label.BOX_START).all())
        answer = self.module._single_frame_forward(
            input_points=points if labels.numel() and not box else None,
            input_labels=labels if labels.numel() and not box else None,
            input_boxes=points.reshape(1, 1, 4) if box else None,
            input_masks=None if clicks.mask is None else _tensor(clicks.mask)[n][None, None],
            image_embeddings=[
                *_high_resolution(features, 1),
                channels_first(np.asarray(features.embedding)[n : n + 1]),
            ],
            multimask_output=multimask,
        )
        score = answer.object_score_logits.squeeze()
        return ObjectPrediction(answer.pred_masks[0, 0], answer.iou_scores.max(), score, answer.object_pointer[0, 0])

    def _encode_new_memory(self, embedding: torch.Tensor, large: torch.Tensor, from_prompt: bool) -> torch.Tensor:
        """One object at a time: like the original, the port fails on more."""
        one_by_one = zip(embedding.split(1, 1), large.split(1), strict=True)
        return torch.cat(
            [self.module._encode_new_memory(e, m, torch.ones(1, 1), from_prompt)[0] for e, m in one_by_one]
        )


def _tensor(x: ArrayLike) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


def _last(x: torch.Tensor) -> np.ndarray:
    return channels_last(x).numpy()


def _sequence(embedding: ArrayLike) -> torch.Tensor:
    """A map [O, H, W, C] as [H * W, O, C]."""
    x = _tensor(embedding)
    return x.reshape(len(x), -1, x.shape[-1]).transpose(0, 1)


def _masks(clicks: Clicks) -> torch.Tensor | None:
    return None if clicks.mask is None else _tensor(clicks.mask)[:, None]


def _high_resolution(features: ImageFeatures, objects: int) -> list[torch.Tensor]:
    return [channels_first(x).expand(objects, -1, -1, -1) for x in (features.stride4, features.stride8)]
