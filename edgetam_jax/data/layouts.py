"""Recognises which dataset a folder holds, and opens it for training."""

from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.data.datasets import TRAINING, choose_split, open_dataset
from edgetam_jax.data.footage import FootageSource, raise_if_any
from edgetam_jax.data.stills import Sa1bImages, open_coco
from edgetam_jax.data.videos import FolderVideos, SavVideos
from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import IMAGE_SUFFIXES

COCO_TRAINING = ("train2017", "train2014", "train")
_MASKLETS = ("_manual", "_auto")  # objects annotated by people come first


def open_training_data(path: str | Path, split: str | None = None) -> FootageSource:
    """Opens the videos or images in a folder of any of these layouts:

    - DAVIS, MOSE, YouTube-VOS: JPEGImages and Annotations, in the folder or in one for each split;
    - SA-V's validation and test: JPEGImages_24fps and Annotations_6fps;
    - SA-V's training: NAME_manual.json, NAME_auto.json or both, with NAME.mp4 or a folder NAME of images, there or one
      folder down; the folders of images may also be in JPEGImages_24fps;
    - COCO: annotations/instances_SPLIT.json, or such a file itself;
    - SA-1B: NAME.json beside NAME.jpg, there or one folder down.

    Missing files are reported here; files are read when an example needs them.

    Args:
        path: The folder, or a JSON file of COCO.
        split: The name of a split. By default the one for training.

    Returns:
        The videos, or images as videos of one frame, with their masks.

    Raises:
        FrameError: The folder is none of these datasets, or files are missing.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".json" and split is None:
        return open_coco(path)
    if not path.is_dir():
        raise FrameError(f"{path} is not a folder; expected a dataset, or the JSON file of one split of COCO.")
    coco = {file.stem.removeprefix("instances_"): file for file in path.glob("annotations/instances_*.json")}
    if coco:
        return open_coco(coco[choose_split(coco, split, path, COCO_TRAINING)])
    if _has_annotation_images(path):
        return _open_folders(path, split)
    files = sorted(path.glob("*.json")) or sorted(path.glob("*/*.json"))
    if split is not None and files:
        raise FrameError(f"{path} is one split by itself; {split} is not in it. Leave the split out.")
    masklets = [file for file in files if file.stem.endswith(_MASKLETS)]
    if masklets:
        return _open_sav(path, masklets)
    if any(map(_image_beside, files)):
        return _open_sa1b(files)
    raise FrameError(
        f"{path} is no dataset that is known here; expected JPEGImages and Annotations in it (DAVIS, MOSE, "
        "YouTube-VOS), JPEGImages_24fps and Annotations_6fps (SA-V), NAME_manual.json with NAME.mp4 (SA-V's training), "
        "annotations/instances_SPLIT.json (COCO), or NAME.json with NAME.jpg (SA-1B)."
    )


def _has_annotation_images(path: Path) -> bool:
    if (path / "JPEGImages_24fps").is_dir() and (path / "Annotations_6fps").is_dir():
        return True
    return (path / "JPEGImages").is_dir() or any(path.glob("*/JPEGImages"))


def _open_folders(path: Path, split: str | None) -> FolderVideos:
    dataset = open_dataset(path, split, TRAINING)
    images, annotations = dataset.images, dataset.annotations
    without_frames = (name for name in dataset.names if not (images / name).is_dir())
    raise_if_any(without_frames, f"videos have no frames in {images}")
    without_masks = (name for name in dataset.names if not (annotations / name).is_dir())
    raise_if_any(without_masks, f"videos have no masks in {annotations}")

    if dataset.layout == "ids":  # no file lists the videos
        frames = {folder.name for folder in images.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
        raise_if_any(sorted(frames - set(dataset.names)), f"videos have frames, but no masks in {annotations}")
    return FolderVideos(dataset)


def _open_sav(root: Path, files: Sequence[Path]) -> SavVideos:
    by_name: dict[Path, list[Path]] = {}
    for ending in _MASKLETS:
        for file in files:
            if file.stem.endswith(ending):
                by_name.setdefault(file.with_name(file.stem.removesuffix(ending)), []).append(file)
    video_of = {name: _find_video(root, name) for name in by_name}
    raise_if_any(
        (name.name for name, video in video_of.items() if video is None), f"videos of {root} have masks, but no frames"
    )
    videos = tuple(video for video in video_of.values() if video is not None)
    beside = {video for folder in {name.parent for name in by_name} for video in folder.glob("*.mp4")}
    raise_if_any(sorted(v.name for v in beside if v.with_suffix("") not in by_name), f"videos of {root} have no masks")
    return SavVideos(videos, tuple(map(tuple, by_name.values())))


def _find_video(root: Path, name: Path) -> Path | None:
    candidates = (name, name.with_name(f"{name.name}.mp4"), root / "JPEGImages_24fps" / name.name)
    return next((path for path in candidates if path.exists()), None)


def _open_sa1b(files: Sequence[Path]) -> Sa1bImages:
    images = {file: _image_beside(file) for file in files}
    without_image = (file for file, image in images.items() if image is None)
    raise_if_any(without_image, "files have masks, but no image beside them")

    paths = tuple(image for image in images.values() if image is not None)
    entries = (p for folder in dict.fromkeys(path.parent for path in paths) for p in sorted(folder.iterdir()))
    unmasked = (p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and p.with_suffix(".json") not in images)
    raise_if_any(unmasked, "images have no masks")
    return Sa1bImages(paths, tuple(files))


def _image_beside(file: Path) -> Path | None:
    return next((p for p in map(file.with_suffix, IMAGE_SUFFIXES) if p.is_file()), None)
