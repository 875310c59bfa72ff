"""Configurations: frozen, hashable, and small. Sizes follow from the image size; nothing is stated twice."""

import dataclasses
import types
import typing
from typing import Any, Literal

from edgetam_jax.errors import ConfigError

STRIDE = 16  # pixels of the model's input under one cell of the image embedding
MASK_STRIDE = 4  # pixels of the model's input under one pixel of a predicted mask


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """RepViT: four stages, each at half the resolution of the one before.

    Attributes:
        widths: Number of channels of each stage.
        depths: Number of blocks of each stage.
    """

    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (2, 2, 14, 2)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The mask decoder and its two-way transformer.

    Attributes:
        layers: Number of layers of the transformer.
        heads: Number of heads of each attention.
        mlp_dim: Hidden dimension of the transformer's MLPs.
        iou_dim: Hidden dimension of the MLP that estimates the IoU.
        stability_delta: The stability score of a mask is its area at a threshold raised by this value, divided by its
            area at a threshold lowered by it.
        stability_threshold: A single mask with a lower stability score is replaced by the best of the three others.
    """

    layers: int = 2
    heads: int = 8
    mlp_dim: int = 2048
    iou_dim: int = 256
    stability_delta: float = 0.05
    stability_threshold: float = 0.98


@dataclasses.dataclass(frozen=True)
class MemoryAttentionConfig:
    """Memory attention.

    Attributes:
        layers: Number of layers.
        mlp_dim: Hidden dimension of the MLPs.
    """

    layers: int = 2
    mlp_dim: int = 2048


@dataclasses.dataclass(frozen=True)
class MemoryEncoderConfig:
    """The memory encoder. The mask that enters it is `sigmoid(logits) * sigmoid_scale + sigmoid_bias`.

    Attributes:
        fuser_layers: Number of ConvNeXt blocks.
        sigmoid_scale: See above.
        sigmoid_bias: See above.
    """

    fuser_layers: int = 2
    sigmoid_scale: float = 20.0
    sigmoid_bias: float = -10.0


@dataclasses.dataclass(frozen=True)
class PerceiverConfig:
    """The spatial perceiver: global latents, and one latent for each window of a square grid.

    Attributes:
        layers: Number of layers.
        latents: Number of global latents.
        window_grid: Number of windows along a side.
    """

    layers: int = 2
    latents: int = 256
    window_grid: int = 16

    @property
    def tokens(self) -> int:
        """Number of memory tokens of a frame."""
        return self.latents + self.window_grid**2


@dataclasses.dataclass(frozen=True)
class Config:
    """The configuration of a network. The same weights serve every image size.

    Attributes:
        image_size: Side of the square that images are resized to. A multiple of 32, such that `embedding_size` is a
            multiple of `perceiver.window_grid`; with the default grid, a multiple of 256.
        hidden_dim: Channels of the image embedding, and of tokens and object pointers.
        memory_dim: Channels of memory tokens.
        memory_frames: Rows of the temporal embedding of memory: six recent frames, and one row for conditioning frames.
        pointers: Number of object pointers that are attended to: fifteen of recent frames, and those of prompts.
        trunk: The image encoder's trunk.
        decoder: The mask decoder.
        memory_attention: Memory attention.
        memory_encoder: The memory encoder.
        perceiver: The spatial perceiver.

    Raises:
        ConfigError: Sizes do not fit each other.
    """

    image_size: int = 1024
    hidden_dim: int = 256
    memory_dim: int = 64
    memory_frames: int = 7
    pointers: int = 16
    trunk: TrunkConfig = TrunkConfig()
    decoder: DecoderConfig = DecoderConfig()
    memory_attention: MemoryAttentionConfig = MemoryAttentionConfig()
    memory_encoder: MemoryEncoderConfig = MemoryEncoderConfig()
    perceiver: PerceiverConfig = PerceiverConfig()

    def __post_init__(self) -> None:
        grid, step = self.perceiver.window_grid, 2 * STRIDE
        if self.image_size <= 0 or self.image_size % step or self.embedding_size % grid:
            raise ConfigError(
                f"image_size is {self.image_size}; it must be a positive multiple of {step}, and its embedding "
                f"(image_size / {STRIDE}) a multiple of the perceiver's window grid, {grid}. Try {STRIDE * grid * 2}."
            )
        step = max(8, 2 * self.decoder.heads)
        if self.hidden_dim % step or self.hidden_dim % self.memory_dim or self.memory_dim % 4:
            raise ConfigError(
                f"hidden_dim is {self.hidden_dim} and memory_dim {self.memory_dim}; hidden_dim must be a multiple of "
                f"{step} and of memory_dim, and memory_dim a multiple of 4."
            )

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding in cells: 64 for images of 1024 pixels."""
        return self.image_size // STRIDE

    @property
    def mask_size(self) -> int:
        """Side of a predicted mask in pixels: 256 for images of 1024 pixels."""
        return self.image_size // MASK_STRIDE

    @property
    def pointer_tokens(self) -> int:
        """Memory tokens that one object pointer becomes."""
        return self.hidden_dim // self.memory_dim

    def resized(self, image_size: int) -> "Config":
        """The same network for images of another size.

        Args:
            image_size: See above.

        Returns:
            A new configuration.

        Raises:
            ConfigError: The size does not fit the network.
        """
        return dataclasses.replace(self, image_size=image_size)

    def to_dict(self) -> dict[str, Any]:
        """The fields as nested dictionaries.

        Returns:
            Values by field name, which `json` can write.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`.

        Args:
            values: Values by field name, with lists or tuples. What is left out has its default.

        Returns:
            The configuration.

        Raises:
            ConfigError: A key is unknown, or a value cannot be used.
        """
        return dataclass_from_dict(cls, values, "configuration")


def dataclass_from_dict(cls: Any, values: dict[str, Any], where: str, **ready: Any) -> Any:
    """Builds a dataclass, and the dataclasses nested in it, from parsed JSON or TOML.

    Values are checked against the type hints of the fields: `bool`, `int`, `float` (whole numbers are accepted),
    `str`, `Literal`, `X | None`, tuples of numbers, nested dataclasses, and `tuple[tuple[str, X], ...]`, which is
    written as a mapping. Fields that are left out keep their default.

    Args:
        cls: The dataclass.
        values: Values by field name.
        where: What the values belong to, for error messages.
        ready: Fields that are already built.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: A key is unknown, or a value has another type.
    """
    return cls(**_read_fields(cls, values, where), **ready)


def _read_fields(cls: Any, values: dict[str, Any], where: str) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(f"{where}: unknown keys {unknown}; known are {sorted(fields)}.")
    hints = typing.get_type_hints(cls)
    return {
        name: _read_value(hints[name], value, f"{where}.{name}", _default(fields[name]))
        for name, value in values.items()
    }


def _read_value(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    """A value of the type `hint`. Keys missing from a nested dataclass are taken from the field's `default`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # X | None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _read_value(inner, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}; expected one of {arguments}.")
        return value
    is_items = origin is tuple and arguments[-1] is Ellipsis
    if (is_items or dataclasses.is_dataclass(hint)) and not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping, got {value!r}.")
    if is_items:
        _, item = typing.get_args(arguments[0])
        return tuple((key, _read_value(item, one, f"{where}.{key}")) for key, one in value.items())
    if dataclasses.is_dataclass(hint):
        return dataclasses.replace(default, **_read_fields(hint, value, where))
    if origin is tuple:
        if not isinstance(value, list | tuple) or list(map(_is_number, value)) != [True] * len(arguments):
            raise ConfigError(f"{where}: expected {len(arguments)} numbers, got {value!r}.")
        return tuple(_read_value(each, one, where) for each, one in zip(arguments, value, strict=True))
    if type(value) is int and hint is float:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}.")
    return value


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


EDGETAM = Config()
EDGETAM_768 = EDGETAM.resized(768)
EDGETAM_512 = EDGETAM.resized(512)
NANO = Config(
    image_size=256,
    hidden_dim=128,
    trunk=TrunkConfig(widths=(24, 48, 96, 192), depths=(1, 1, 4, 1)),
    decoder=DecoderConfig(heads=4, mlp_dim=512, iou_dim=128),
    memory_attention=MemoryAttentionConfig(layers=1, mlp_dim=512),
    memory_encoder=MemoryEncoderConfig(fuser_layers=1),
    perceiver=PerceiverConfig(layers=1, latents=48, window_grid=8),
)
PRESETS = {"edgetam": EDGETAM, "edgetam-768": EDGETAM_768, "edgetam-512": EDGETAM_512, "nano": NANO}
