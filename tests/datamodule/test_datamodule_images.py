"""Folders and tables of images: read right, or refused in one sentence before anything is trained."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from picture import CLASSES, folder_of_images, stripes
from PIL import Image as Pillow

from kdlab.datamodule.digits import Digits
from kdlab.datamodule.fashion_mnist import FashionMNIST
from kdlab.datamodule.images import Images
from kdlab.datamodule.processor.image import Image
from kdlab.error import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return folder_of_images(tmp_path / "shapes")


def data(path, **options) -> Images:
    found = Images(path=str(path), **{"size": 8, **options})
    found.setup()
    return found


def test_a_folder_for_each_class_is_split_by_fractions(folder):
    found = data(folder)
    assert found.labels == list(CLASSES)
    assert {name: len(rows) for name, rows in found.splits.items()} == {"train": 48, "val": 6, "test": 6}
    batch = next(iter(found.val_dataloader()))
    assert batch.inputs["pixel_values"].shape == (6, 3, 8, 8) and batch.tokens is None


def test_folders_of_splits_are_kept(tmp_path):
    for split, count in (("train", 30), ("validation", 9), ("test", 12)):
        folder_of_images(tmp_path / "parts" / split, count)
    with pytest.raises(UserError, match="an image of the test split too"):
        data(tmp_path / "parts")
    found = data(tmp_path / "parts", overlap="allow")
    assert {name: len(rows) for name, rows in found.splits.items()} == {"train": 30, "val": 9, "test": 12}


def test_images_beside_the_classes_have_no_label(folder):
    Pillow.fromarray(stripes(99)).save(folder / "new.png")
    found = data(folder)
    assert found.target.known.sum() == 60 and len(found.values) == 61
    assert "1 image lies in no class's folder and has no label" in found.notices


def test_a_table_names_paths_labels_and_splits(folder):
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    lines = [
        f"{path},{'' if row == 0 else path.parent},{'train' if row % 3 else 'test'}" for row, path in enumerate(paths)
    ]
    (folder / "a.csv").write_text("\n".join(["image,label,part", *lines]))
    found = data(folder / "a.csv", split_column="part", label_map={name: name[:2] for name in CLASSES})
    assert found.labels == ["ac", "al", "sl"] and len(found.splits["test"]) == 19
    assert found.column("part")[:2] == ["test", "train"]


REFUSED = {
    "no folder": (lambda f: f / "nowhere", {}, "nowhere is not there: give a folder"),
    "no image": (lambda f: made(f / "empty"), {}, "empty has no image: put a folder for each class"),
    "an empty class": (lambda f: made(f / "shapes" / "round").parent, {}, "shapes/round has no image"),
    "another file": (lambda f: put(f / "shapes/along/notes.txt", b"hello"), {}, r"notes\.txt has no ending"),
    "no image inside": (lambda f: put(f / "shapes/along/a.png", b"hello"), {}, r"a\.png is no image that can be read"),
    "channels": (lambda f: f / "shapes", {"channels": 2}, "channels is 2, and must be 1 .gray. or 3"),
    "mean": (lambda f: f / "shapes", {"mean": [0.5]}, "a number for each of 3 channels"),
    "std": (lambda f: f / "shapes", {"std": [0.5, 0, 0.5]}, "a number above 0 for each of 3 channels"),
    "fit": (lambda f: f / "shapes", {"fit": "zoom"}, "fit is 'zoom', and must be crop or stretch"),
    "no processor": (lambda f: f / "shapes", {"image_processor": "/"}, "has no preprocessor_config.json"),
    "a lost file": (lambda f: put(f / "a.csv", b"image,label\nlost.png,a\n", True), {}, r"line 2 names lost\.png"),
    "no path": (lambda f: put(f / "a.csv", b"image,label\n,a\n", True), {}, "line 2 has no path of an image"),
    "a column": (lambda f: put(f / "a.csv", b"file,label\nx,a\n", True), {}, "image_column='image' is not in"),
    "beside splits": (lambda f: beside(f), {}, r"has 'across' beside the folders of splits"),
    "splits twice": (lambda f: twice(f / "p"), {}, "has the folders val and valid for one split"),
}  # fmt: skip


def made(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def put(path, content, itself=False):
    path.write_bytes(content)
    return path if itself else path.parents[1]


def twice(folder):
    for one in ("train", "val", "valid"):
        made(folder / one)
    return folder


def beside(folder):
    folder_of_images(folder / "shapes" / "train", 6)
    return folder / "shapes"


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_sentence(case, folder, tmp_path):
    path, options, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as refused:
        data(path(tmp_path), **options)
    assert "\n" not in str(refused.value)


def test_the_settings_of_a_processor_are_taken_where_none_is_given(folder, tmp_path):
    Image(5, 1, (0.3,), (0.2,), "stretch", 7).save_pretrained(made(tmp_path / "model"))
    own = data(folder, size=None, image_processor=str(tmp_path / "model"))
    assert own.processor == Image(5, 1, (0.3,), (0.2,), "stretch", 7)
    given = data(folder, size=6, channels=3, fit="crop", image_processor=str(tmp_path / "model"))
    assert given.processor == Image(6, 3, (0.3,) * 3, (0.2,) * 3, "crop")


def test_digits_and_clothes_are_read_and_refused(tmp_path):
    random = np.random.default_rng(0)
    lines = [",".join(map(str, [*random.integers(0, 256, 784), row % 10])) for row in range(100)]
    with gzip.open(tmp_path / "digits.gz", "wt") as file:
        file.write("\n".join(lines))
    found = Digits(path=str(tmp_path / "digits.gz"))
    found.setup()
    assert found.labels == list("0123456789") and found.processor.size == 28 and str(found.values[0]) == "digit 1"
    for name, count in (("train", 60), ("t10k", 20)):
        head = np.array([2051, count, 28, 28], ">u4").tobytes()
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        with gzip.open(tmp_path / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(head + images.tobytes())
        with gzip.open(tmp_path / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(np.array([2049, count], ">u4").tobytes() + bytes(row % 10 for row in range(count)))
    clothes = FashionMNIST(path=str(tmp_path))
    clothes.setup()
    assert len(clothes.splits["test"]) == 20 and clothes.labels[9] == "ankle boot"
    with gzip.open(tmp_path / "digits.gz", "wt") as file:
        file.write("1,2\n")
    with pytest.raises(UserError, match="has not 784 gray values"):
        Digits(path=str(tmp_path / "digits.gz")).setup()
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UserError, match="sudo apt-get install dataset-fashion-mnist"):
        FashionMNIST(path=str(tmp_path)).setup()


def test_what_may_not_be_fetched_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlab.datamodule.fashion_mnist.INSTALLED", tmp_path / "nowhere")
    with pytest.raises(UserError, match="add download=true to fetch it once with apt-get"):
        FashionMNIST().setup()
    with pytest.raises(UserError, match="add download=true to fetch it once with pip"):
        Digits().setup()
