"""Training data, datasets and simulated users.

Where things are:

- `datasets`: folders of annotated videos, for evaluation and training; `categories`: those of YouTube-VOS.
- `prompt_files`: JSON files of prompts.
- `footage`: the interface of training data; `videos` and `stills` implement it, with `polygons` for COCO; `layouts`
  recognises which dataset a folder holds.
- `example`: from footage to examples of fixed shape, with the random changes of `augment`.
- `pipeline`: shuffled batches of examples; `mixing`: batches of which some examples are synthetic.
- `simulated_user`: prompts and corrections for known masks; `uniform_stream`: random numbers for compiled functions.
- `synthetic`: clips that are drawn from a random key.
- `bank`: a file of real textures and things for synthetic clips; `packing` writes it.
"""

from edgetam_jax.data.augment import PLAIN as PLAIN
from edgetam_jax.data.augment import Augment as Augment
from edgetam_jax.data.augment import Jitter as Jitter
from edgetam_jax.data.example import DataConfig as DataConfig
from edgetam_jax.data.example import make_example as make_example
from edgetam_jax.data.layouts import open_training_data as open_training_data
from edgetam_jax.data.pipeline import Batches as Batches
from edgetam_jax.data.pipeline import batches as batches
