import numpy as np
import pytest
import torch
from PIL import Image

from adaqat_hw import data
from adaqat_hw.data import _image_files
from adaqat_hw.data._image_files import read_image
from adaqat_hw.data._streamed import MEAN, STD
from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.schema import DataConfig
from tests.error_texts import raises_text

CLASSES = ("ant", "bee", "cow")
TRAIN, TEST = 5, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(seed, width=24, height=18):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(root, held_out="val", classes=CLASSES):
    for split, count in (("train", TRAIN), (held_out, TEST)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                seed = 1000 * (split == "train") + 100 * label + i
                Image.fromarray(noise(seed)).save(folder / f"{i}.{'PNG' if i % 2 else 'png'}")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("images"))


def load(path, seed=0, size=8, **options):
    config = DataConfig(name="imagefolder", path=str(path), options={"size": size}, **options)
    return data.load(config, seed)


def joined(batches):
    xs, ys = zip(*batches, strict=True)
    return torch.cat(xs), torch.cat(ys)


def expected(path, seed=None, size=8):
    pixels = torch.from_numpy(read_image(path, size, seed)).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_facts(folder):
    found = load(folder)
    assert (found.train_size, found.test_size, found.num_classes) == (15, 12, 3)
    assert (found.input_shape, found.largest_input, found.vocabulary) == ((3, 8, 8), None, None)
    assert (found.name, found.layout) == (
        f"images of {folder.name}",
        "image folders, train and val",
    )
    assert load(folder, size=224).input_shape == (3, 224, 224)


def test_test_batches_are_the_centres_of_all_images_in_a_mixed_fixed_order(folder):
    found = load(folder, augment=True)
    x, y = joined(found.test_batches(5))
    assert (x.dtype, y.dtype, x.shape) == (torch.float32, torch.int64, (12, 3, 8, 8))
    assert y.bincount().tolist() == [TEST] * 3
    assert y.tolist() != sorted(y.tolist())
    for index, (image, label) in enumerate(zip(x, y, strict=True)):
        path = found.test.path(index)
        assert path.parent.name == CLASSES[label]
        assert torch.allclose(image, expected(path), atol=1e-5)
    again, _ = joined(load(folder, seed=5).test_batches(4))
    assert torch.equal(x, again)
    assert [len(b) for b, _ in found.test_batches(5, 7)] == [5, 2]
    assert torch.equal(joined(found.test_batches(5, 7))[0], x[:7])


def test_an_epoch_without_augmentation_is_a_permutation_of_central_parts(folder):
    found = load(folder)
    x, y = joined(found.train_batches(5, 3, generator(2)))
    order = torch.randperm(15, generator=generator(2))
    for image, label, index in zip(x, y, order.tolist(), strict=True):
        assert label == found.train.labels[index]
        assert torch.allclose(image, expected(found.train.path(index)), atol=1e-5)


def test_augmentation_is_one_seed_per_image_from_the_generator(folder):
    found, plain = load(folder, augment=True), generator(2)
    x, _ = joined(found.train_batches(5, 3, generator(2)))
    order = torch.randperm(15, generator=plain)
    seeds = torch.randint(2**62, (15,), generator=plain)
    for image, index, seed in zip(x, order.tolist(), seeds.tolist(), strict=True):
        assert torch.allclose(image, expected(found.train.path(index), seed), atol=1e-5)
    other, _ = joined(found.train_batches(5, 3, generator(3)))
    assert not torch.equal(x, other)


def test_workers_and_the_global_generator_change_nothing(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    alone = load(folder, augment=True)
    helped = load(folder, augment=True, workers=2)
    first, again = generator(1), generator(1)
    x, y = joined(alone.train_batches(4, 3, first))
    other_x, other_y = joined(helped.train_batches(4, 3, again))
    assert torch.equal(x, other_x)
    assert torch.equal(y, other_y)
    assert torch.equal(first.get_state(), again.get_state())
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_a_batch_and_open_only_their_own_files(folder, monkeypatch):
    found = load(folder, augment=True)
    whole, _ = joined(found.train_batches(6, 2, generator(1)))
    opened = []

    def watched(path, size, seed):
        opened.append(path)
        return read_image(path, size, seed)

    monkeypatch.setattr("adaqat_hw.data._streamed.read_image", watched)
    parts = [joined(found.train_batches(6, 2, generator(1), rank=r, world=2))[0] for r in (0, 1)]
    assert torch.equal(parts[0], whole[[0, 1, 2, 6, 7, 8]])
    assert torch.equal(parts[1], whole[[3, 4, 5, 9, 10, 11]])
    assert len(opened) == len(set(opened)) == 12
    with raises_text(
        ConfigError,
        "train.batch_size = 6 cannot be shared evenly by 4 processes; choose a multiple of 4.",
    ):
        found.train_batches(6, 2, generator(), rank=0, world=4)


def test_calibration_sees_all_classes_and_is_not_augmented(folder):
    found = load(folder, augment=True)
    first, second = found.calibration_batches(6, 5)
    assert (len(first), len(second)) == (6, 6)
    assert torch.equal(first, next(found.calibration_batches(6, 1)))
    central = torch.stack([expected(found.train.path(i)) for i in range(15)])
    apart = (torch.cat([first, second])[:, None] - central).abs().amax((2, 3, 4))
    seen = apart.argmin(1).tolist()
    assert apart.min(1).values.max() < 1e-5
    assert len(set(seen)) == 12
    assert seen != sorted(seen)


def test_to_changes_the_device_of_the_batches_only(folder):
    moved = load(folder).to("meta")
    x, y = next(moved.train_batches(4, 1, generator()))
    assert (x.device.type, y.device.type, x.shape) == ("meta", "meta", (4, 3, 8, 8))
    assert moved.train_size == 15


def test_limits_are_balanced(folder):
    found = load(folder, limit_train=6, limit_test=3)
    assert np.bincount(found.train.labels).tolist() == [2, 2, 2]
    assert np.bincount(found.test.labels).tolist() == [1, 1, 1]
    others = [load(folder, seed=s, limit_train=6).train.paths.tolist() for s in range(5)]
    assert len({tuple(paths) for paths in others}) > 1


def test_scanning_opens_no_image(folder, monkeypatch):
    monkeypatch.setattr(_image_files.Image, "open", None)
    assert load(folder).train_size == 15


def test_test_stands_in_for_val(tmp_path):
    found = load(write(tmp_path, "test"))
    assert found.layout == "image folders, train and test"
    assert found.test_size == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_one_sentence_with_its_path(tmp_path, workers):
    path = write(tmp_path) / "train" / "bee" / "3.PNG"
    path.write_bytes(path.read_bytes()[:200])
    with raises_text(
        ConfigError,
        f"The image '{tmp_path}/train/bee/3.PNG' cannot be read (image file is "
        "truncated); it is truncated or damaged: copy it again or remove it.",
    ):
        list(load(tmp_path, workers=workers).train_batches(5, 3, generator()))


def test_a_worker_that_dies_fails_the_stage(folder, monkeypatch):
    def die(path, size, seed):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error.")

    monkeypatch.setattr("adaqat_hw.data._streamed.read_image", die)
    with raises_text(
        StageFailed,
        "data failed: a process that reads images ended (DataLoader worker (pid 1) is "
        "killed by signal: Bus error.); lower data.workers or give the machine more "
        "(shared) memory.",
    ):
        list(load(folder).test_batches(4))


def test_layouts_that_do_not_fit_are_refused(tmp_path):
    with raises_text(
        ConfigError,
        "The data set 'imagefolder' needs data.path: a folder with train/<class>/* and "
        "val/<class>/* (or test/<class>/*).",
    ):
        data.load(DataConfig(name="imagefolder"), 0)
    with raises_text(
        ConfigError,
        f"The image folder '{tmp_path}/train' does not exist; data.path must hold "
        "train/<class>/* and val/<class>/* (or test/<class>/*).",
    ):
        load(tmp_path)
    write(tmp_path)
    (tmp_path / "val" / "cow").rename(tmp_path / "val" / "yak")
    with raises_text(
        ConfigError,
        f"The class folders of '{tmp_path}/val' differ from those of 'train': missing "
        "are ['cow'] (1), unknown are ['yak'] (1); both splits need the same classes.",
    ):
        load(tmp_path)
    (tmp_path / "val" / "yak").rename(tmp_path / "val" / "cow")
    for path in (tmp_path / "train" / "ant").iterdir():
        path.unlink()
    with raises_text(
        ConfigError,
        f"The class folder '{tmp_path}/train/ant' holds no .jpg, .jpeg or .png file; "
        "fill it, or remove it from every split.",
    ):
        load(tmp_path)
    (tmp_path / "val").rename(tmp_path / "other")
    with raises_text(
        ConfigError,
        f"The image folder '{tmp_path}/val' does not exist; data.path must hold "
        "train/<class>/* and val/<class>/* (or test/<class>/*).",
    ):
        load(tmp_path)


def test_one_class_is_refused(tmp_path):
    with raises_text(
        ConfigError,
        f"The image folder '{tmp_path}/train' holds the class folders ['ant']; it needs "
        "one folder for each of at least two classes.",
    ):
        load(write(tmp_path, classes=("ant",)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"size": 4},
            "data.options.size = 4 of the data set 'imagefolder' must be an integer from 8 to "
            "1024.",
        ),
        ({"crop": 1}, "data.options.crop is unknown: the data set 'imagefolder' takes size."),
    ],
)
def test_wrong_options_are_refused(folder, options, text):
    with raises_text(ConfigError, text):
        data.load(DataConfig(name="imagefolder", path=str(folder), options=options), 0)


@pytest.mark.parametrize(("width", "height"), [(64, 40), (40, 64), (9, 300), (5, 5)])
def test_the_centre_keeps_the_aspect_ratio(tmp_path, width, height):
    """A red disc in the middle of a picture stays round and in the middle."""
    y, x = np.mgrid[:height, :width]
    radius = min(width, height) / 4
    near = (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2 < radius**2
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[near] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "disc.png")
    red = read_image(tmp_path / "disc.png", 56, None)[0] > 127
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    sides = len(rows), len(columns)
    # The shorter side becomes 64 pixels, so the disc 32; a 5-pixel source is only roughly round.
    tolerance = 3 if min(width, height) > 20 else 12
    assert all(abs(side - 32) <= tolerance for side in sides)
    assert abs(rows.mean() - 27.5) <= 1.5
    assert abs(columns.mean() - 27.5) <= 1.5


def test_random_parts_have_the_drawn_range_of_area_and_aspect(tmp_path):
    """Pixels of a picture tell their place: red across, green down."""
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    pixels = np.stack([across, down, 0 * down], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    areas, flips = [], 0
    for seed in range(300):
        made = read_image(tmp_path / "ramp.png", 16, seed).astype(float)
        wide = abs(made[0, 0, -1] - made[0, 0, 0]) * 16 / 15
        high = (made[1, -1, 0] - made[1, 0, 0]) * 16 / 15
        flips += bool(made[0, 0, -1] < made[0, 0, 0])
        areas.append(wide * high / 200**2)
        assert 0.65 < wide / high < 1.55
        assert made[2].max() == 0
    assert 0.06 < min(areas) < 0.15
    assert 0.9 < max(areas) <= 1.05
    assert 0.45 < float(np.mean(areas)) < 0.6
    assert 110 < flips < 190


@pytest.mark.parametrize("shape", [(400, 3), (3, 400), (1, 1)])
def test_extreme_shapes_still_give_an_image(tmp_path, shape):
    Image.fromarray(noise(0, *shape)).save(tmp_path / "a.png")
    for seed in (None, 0, 1, 2):
        assert read_image(tmp_path / "a.png", 8, seed).shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.fromarray(noise(0)).convert(mode).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}", 8, None).shape == (3, 8, 8)
