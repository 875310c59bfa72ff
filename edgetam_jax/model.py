"""`Model`: parameters and their configuration as one pytree; initial parameters and their shapes."""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import flax.struct
import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Float

from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.nn import folding
from edgetam_jax.nn.edgetam import VIDEO_ONLY, EdgeTAM, example_inputs, run_images, run_video
from edgetam_jax.nn.memory_attention import FrameQueries
from edgetam_jax.ops.tree import platform_of
from edgetam_jax.types import ImageFeatures, MaskPrediction, Memory, ObjectPrediction, PromptInputs

Params = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

FOLDED = "_folded"  # key in `vars(model)` under which `for_inference` caches the folded model


@flax.struct.dataclass
class Model:
    """A network: a pytree with parameters as leaves and a static configuration, for `jax.jit`, `jax.grad` and the like.

    Attributes:
        params: Nested mapping of arrays, the parameters of `nn.edgetam.EdgeTAM`.
        config: Sizes and hyperparameters of the network.
        weights: Of a folded model, what it computes with instead of the parameters that are None; see `folded`.
    """

    params: Params
    config: Config = flax.struct.field(pytree_node=False)
    weights: Params | None = None

    @property
    def platform(self) -> str:
        """Where the parameters are: "cpu", "gpu" or "tpu". While they are traced, that of JAX's default device."""
        return platform_of(self.params["no_mem_embed"])

    @property
    def image_only(self) -> bool:
        """Whether the model lacks the parts that only tracking needs."""
        return "memory_attention" not in self.params

    def check_for_video(self) -> None:
        """Checks that the model has the parameters that tracking needs.

        Raises:
            CheckpointError: The model was loaded from a checkpoint for still images, which lacks them.
        """
        if self.image_only:
            raise CheckpointError(
                "this model was loaded from a checkpoint for still images only; "
                "load a checkpoint of the video model to track."
            )

    def astype(self, dtype: str) -> "Model":
        """The model with its parameters, and so its arithmetic, in another type.

        Args:
            dtype: "float32" or "bfloat16". BatchNorm statistics and position encodings stay float32.

        Returns:
            A model of the same configuration.

        Raises:
            ConfigError: `dtype` is another type.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f'dtype is {dtype!r}; expected "float32" or "bfloat16".')
        flat: dict[Any, Any] = flatten_dict(self.params)
        kept = {path: x for path, x in flat.items() if x is None or is_statistic(path) or x.dtype == dtype}
        if len(kept) == len(flat) and all(x.dtype == dtype for x in jax.tree.leaves(self.weights)):
            return self
        cast = {path: kept[path] if path in kept else x.astype(dtype) for path, x in flat.items()}
        weights = jax.tree.map(lambda x: x.astype(dtype), self.weights)
        return dataclasses.replace(self, params=unflatten_dict(cast), weights=weights)

    def folded(self) -> "Model":
        """The model for inference, with all that depends on its parameters alone computed: equal up to rounding.

        BatchNorms and branches are folded into convolutions, consecutive products are composed, and parameters that
        nothing reads any more are None. `track`, `track_step`, the predictors and the commands do this themselves, once
        for a model whose parameters are JAX arrays. Call it before `jax.jit` of your own functions, for which they
        cannot.

        Returns:
            A model of the same configuration. It can be neither saved nor trained: keep the one it was made of.
        """
        if self.weights is not None:
            return self
        run = run_images if self.image_only else run_video
        params, weights = folding.fold(run, self.config, self.params)
        # Kept, because `platform` and `dtype` are read from it.
        return Model({**params, "no_mem_embed": self.params["no_mem_embed"]}, self.config, weights)

    def encode_image(self, pixels: Float[Array, "*b S S 3"]) -> ImageFeatures:
        """Computes the features of images, which are the same for all objects.

        Args:
            pixels: [..., S, S, 3] float32, resized and normalised images, see `ops.pixels.preprocess`.

        Returns:
            The features, whose embedding [..., H, W, C] has neither memory nor the embedding of its absence added.
        """
        return self.apply(EdgeTAM.encode_image, pixels)

    def add_no_memory_embedding(self, embedding: Float[Array, "*b H W C"]) -> Float[Array, "*b H W C"]:
        """The embedding that the decoder takes on still images and on prompted frames.

        Args:
            embedding: [..., H, W, C], of `encode_image`.

        Returns:
            [..., H, W, C].
        """
        return self.apply(EdgeTAM.add_no_memory_embedding, embedding)

    def self_attend(self, embedding: Float[Array, "*b H W C"]) -> FrameQueries:
        """The first part of memory attention, which needs no memory and is shared by all objects.

        Args:
            embedding: [..., H, W, C], of `encode_image`.

        Returns:
            The arguments of `condition_on_memory`.
        """
        return self.apply(EdgeTAM.self_attend, embedding)

    def condition_on_memory(self, queries: FrameQueries, memory: Memory) -> Float[Array, "*b H W C"]:
        """The rest of memory attention: the embedding that the decoder takes on tracked frames.

        Args:
            queries: The frame, as returned by `self_attend`.
            memory: The memory of one object.

        Returns:
            [..., H, W, C].
        """
        return self.apply(EdgeTAM.condition_on_memory, queries, memory)

    def segment(self, features: ImageFeatures, prompt: PromptInputs) -> MaskPrediction:
        """Predicts four masks for a prompt.

        Args:
            features: Features of the image, whose embedding is that of `condition_on_memory` or
                `add_no_memory_embedding`.
            prompt: Points, a box or mask logits, in pixels of the model's input.

        Returns:
            The masks: the first for unambiguous prompts, the others as alternatives.
        """
        return self.apply(EdgeTAM.segment, features, prompt)

    def select_mask(self, prediction: MaskPrediction, multimask: Bool[Array, "*b"] | bool) -> ObjectPrediction:
        """Chooses one of the four masks, and computes the object's pointer.

        Args:
            prediction: The masks of `segment`.
            multimask: [...] Choose the best of the last three masks, as after a single click. Otherwise the first mask
                is chosen if it is stable.

        Returns:
            The mask, with logits of -1024 if the object is absent.
        """
        return self.apply(EdgeTAM.select_mask, prediction, multimask)

    def use_mask_as_output(self, features: ImageFeatures, mask: Float[Array, "*b S S"]) -> ObjectPrediction:
        """Makes a prediction of a mask prompt.

        Args:
            features: Features of the image, as returned by `encode_image`.
            mask: [..., S, S] of 0 and 1, at the model's input size.

        Returns:
            The prediction, whose mask is the given one.
        """
        return self.apply(EdgeTAM.use_mask_as_output, features, mask)

    def encode_memory(
        self,
        embedding: Float[Array, "*#b H W C"],
        logits: Float[Array, "*b h w"],
        from_prompt: Bool[Array, "*b"] | bool,
    ) -> Float[Array, "*b L D"]:
        """Encodes a frame and the mask of an object on it as memory.

        Args:
            embedding: [..., H, W, C], of `encode_image`.
            logits: [..., h, w], of the object's mask.
            from_prompt: [...] The mask is that of a prompt, and is binarised.

        Returns:
            [..., L, D] memory tokens.
        """
        return self.apply(EdgeTAM.encode_memory, embedding, logits, from_prompt)

    def pointer(self, token: Float[Array, "*b C"], present: Bool[Array, "*b"]) -> Float[Array, "*b C"]:
        """The object pointer.

        Args:
            token: [..., C], the decoder's token of the chosen mask.
            present: [...] Whether the object is in the image.

        Returns:
            [..., C], projected from the token; for absent objects, a fixed vector.
        """
        return self.apply(EdgeTAM.pointer, token, present)

    def apply(self, method: Callable[Concatenate[EdgeTAM, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a method of the network with these parameters.

        Args:
            method: A method of `nn.edgetam.EdgeTAM`, or any function that takes the network first.
            *args: Its further arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What it returns.
        """
        apply: Any = EdgeTAM(self.config).apply
        variables: dict[str, Params] = {"params": {**VIDEO_ONLY, **self.params}}
        if self.weights is not None:
            variables[folding.COLLECTION] = self.weights
        return apply(variables, *args, method=method, **kwargs)


def is_statistic(path: tuple[str, ...]) -> bool:
    """Whether a parameter is never trained: BatchNorm statistics and the Gaussian matrix of the position encoding."""
    return path[-2:] in (("bn", "mean"), ("bn", "var")) or path[-1] == "positional_encoding_gaussian_matrix"


def init_params(config: Config, key: Array) -> Params:
    """Random initial parameters, for training from scratch.

    Args:
        config: The network.
        key: A key of `jax.random`.

    Returns:
        Nested mapping of float32 arrays.
    """
    init = partial(EdgeTAM(config).init, method="init_all")
    return jax.jit(init)(key, *example_inputs(config))["params"]  # under jit, so that XLA drops the forward pass


def param_shapes(config: Config) -> Params:
    """The parameters' tree with `jax.ShapeDtypeStruct` leaves; nothing is computed."""
    return jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))


def for_inference(model: Model) -> Model:
    """`model.folded()`, computed once for a model; `model` itself if it is traced, or if its arrays are not JAX's.

    Traced parameters may be those of a training step, whose own program folds them. NumPy's arrays may change.
    """
    if model.weights is not None:
        return model
    leaves = jax.tree.leaves(model.params)
    found: tuple[list[Array], Model] | None = vars(model).get(FOLDED)
    if found is not None and len(leaves) == len(found[0]) and all(map(operator.is_, leaves, found[0])):
        return found[1]
    if not all(isinstance(x, Array) and not isinstance(x, Tracer) for x in leaves):
        return model
    folded = model.folded()
    vars(model)[FOLDED] = leaves, folded
    return folded
