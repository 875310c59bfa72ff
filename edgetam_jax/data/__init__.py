"""Data to train on, see `pipeline` for batches and `layouts` for the datasets that are known."""

from edgetam_jax.data.augment import PLAIN as PLAIN
from edgetam_jax.data.augment import Augment as Augment
from edgetam_jax.data.augment import Jitter as Jitter
from edgetam_jax.data.examples import DataConfig as DataConfig
from edgetam_jax.data.examples import make_example as make_example
from edgetam_jax.data.layouts import open_training_data as open_training_data
from edgetam_jax.data.pipeline import Batches as Batches
from edgetam_jax.data.pipeline import batches as batches
