"""A tracker that runs an exported network with NumPy and onnxruntime alone (for LiteRT: ai-edge-litert).

This folder imports nothing of edgetam_jax and no JAX, and may be copied into another project:

    tracker = Tracker("tracker/")                                       # a folder that `edgetam-jax export` wrote
    tracker.step(frame, {7: Prompt(points=[[210, 350]], labels=[1])})   # object 7, clicked on the first frame
    results = tracker.step(next_frame)                                  # every known object
    results[7].mask                                                     # [height, width] bool, of the frame's size
"""

from .files import ExportedFilesError as ExportedFilesError
from .files import read_spec as read_spec
from .tracker import Prompt as Prompt
from .tracker import Result as Result
from .tracker import Tracker as Tracker
