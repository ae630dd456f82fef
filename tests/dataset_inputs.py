"""Small inputs of every family of image sets that reads files: a function a family, tmp folder -> spellings."""

import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.datasets.base.masks import VOID


def aircraft(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    data = tmp / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    (data / "variants.txt").write_text("707-320\nDC-9-30\n")
    for start, part in enumerate(("train", "val", "test")):
        ids = [f"{10 * start + k:07d}" for k in range(2)]
        for id in ids:
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(data / "images" / f"{id}.jpg")
        (data / f"images_variant_{part}.txt").write_text(f"{ids[0]} 707-320\n{ids[1]} DC-9-30\n")
    return [f"aircraft:{tmp}", f"aircraft:{data}?part=test"]


def csv(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    tmp.mkdir(parents=True, exist_ok=True)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / f"{index}.png")
    (tmp / "indices.csv").write_text("path,label,note\n" + "".join(f"{i}.png,{i % 2},x\n" for i in range(4)))
    (tmp / "names.csv").write_text("label,path\n" + "".join(f"{'dog' if i % 2 else 'cat'},{i}.png\n" for i in range(4)))
    return [f"csv:{tmp / 'indices.csv'}", f"csv:{tmp / 'names.csv'}"]


def cub(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    root = tmp / "CUB_200_2011"
    classes = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for k in range(6):
        path = f"{classes[k % 2]}/{k:04d}.jpg"
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / "images" / path)
        for name, value in (("images", path), ("image_class_labels", k % 2 + 1), ("train_test_split", int(k < 4))):
            lists[name].append(f"{k + 1} {value}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("".join(f"{k + 1} {name}\n" for k, name in enumerate(classes)))
    return [f"cub:{tmp}", f"cub:{root}?part=train"]


def cue_conflict(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for shape in ("cat", "dog"):
        for folder in (tmp / "both" / "stimuli" / shape, tmp / "both" / "silhouettes" / shape, tmp / "bare" / shape):
            folder.mkdir(parents=True)
        outline = np.full((40, 50), 255, dtype=np.uint8)
        outline[10:30, 10:30] = 0
        Image.fromarray(outline).save(tmp / "both" / "silhouettes" / shape / f"{shape}1.png")
        for texture in ("cat2", "knife1"):
            picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
            picture.save(tmp / "both" / "stimuli" / shape / f"{shape}1-{texture}.png")
            picture.save(tmp / "bare" / shape / f"{shape}1-{texture}.png")
    return [f"cue_conflict:{tmp / 'both'}", f"cue_conflict:{tmp / 'bare'}"]


def dtd(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    root = tmp / "dtd"
    (root / "labels").mkdir(parents=True)
    for part in ("train", "val", "test"):
        paths = [f"{name}/{name}_{part}.jpg" for name in ("banded", "zigzagged")]
        for path in paths:
            (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / "images" / path)
        (root / "labels" / f"{part}1.txt").write_text("\n".join(paths) + "\n")
    return [f"dtd:{tmp}", f"dtd:{root}?fold=1&part=val"]


def flowers(tmp: Path) -> list[str]:
    if importlib.util.find_spec("scipy") is None:
        return []
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    (tmp / "jpg").mkdir(parents=True)
    for k in range(1, 7):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / "jpg" / f"image_{k:05d}.jpg")
    savemat(tmp / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]], dtype=np.uint8)})
    savemat(tmp / "setid.mat", {"trnid": [[1, 2]], "valid": [[4, 3]], "tstid": [[5, 6]]})
    return [f"flowers:{tmp}", f"flowers:{tmp}?part=test"]


def folder(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp / "pictures" / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp / "pictures" / name / f"{index}.png")
    for part, names in {"train": ("cat", "dog"), "test": ("cat", "owl")}.items():
        for name in names:
            (tmp / "parts" / part / name).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
                tmp / "parts" / part / name / "0.png"
            )
    return [f"folder:{tmp / 'pictures'}", f"folder:{tmp / 'parts'}?parts=all"]


def fungi(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    categories = [
        {"id": k, "name": name, "supercategory": "Fungi"}
        for k, name in enumerate(("Amanita muscaria", "Boletus edulis"))
    ]
    for part in ("train", "val"):
        images, annotations = [], []
        for k in range(4):
            path = f"images/{k % 2}_x/{part}{k}.JPG"
            (tmp / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / path)
            images.append({"id": k, "file_name": path, "width": 50, "height": 40})
            annotations.append({"id": k, "image_id": k, "category_id": k % 2})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp / f"{part}.json").write_text(json.dumps(content))
    return [f"fungi:{tmp}", f"fungi:{tmp}?part=val"]


def gtsrb(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    names = [f"Training/{k:05d}/{frame:05d}_00000.ppm" for k in (0, 42) for frame in range(2)]
    for name in (*names, *(f"Final_Test/Images/{k:05d}.ppm" for k in range(2))):
        (tmp / "GTSRB" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / "GTSRB" / name)
    rows = [
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId",
        "00000.ppm;50;40;5;5;45;35;42",
        "00001.ppm;50;40;5;5;45;35;0",
    ]
    (tmp / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return [f"gtsrb:{tmp}", f"gtsrb:{tmp}?part=test"]


def hf(tmp: Path) -> list[str]:
    if importlib.util.find_spec("datasets") is None:
        return []
    import datasets as library

    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(4)]
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["cat", "dog"])})
    table = library.Dataset.from_dict({"image": pictures, "label": [0, 1, 0, 1]}, features=features)
    table.save_to_disk(str(tmp / "saved"))
    return [f"hf:{tmp / 'saved'}"]


def imagenet_c(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for place in ("noise/gaussian_noise/1", "noise/gaussian_noise/2", "fog/5"):
        for wnid in ("n01440764", "n01443537"):
            folder = tmp / "c" / place / wnid
            folder.mkdir(parents=True, exist_ok=True)
            for name in "ab":
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{name}.JPEG")
    return [f"imagenet_c:{tmp / 'c'}", f"imagenet_c:{tmp / 'c'}?images=3"]


def imagenet_hard(tmp: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    (tmp / "data").mkdir(parents=True)
    lists = [[7], [12, 7], [999, 3, 3], [7, 12], [0], [3]]
    for shard in range(2):
        cells = [
            {"bytes": encoded(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)), "path": f"{k}.png"} for k in range(3)
        ]
        rows = {"image": cells, "label": lists[3 * shard : 3 * shard + 3], "origin": ["imagenet_a"] * 3}
        pq.write_table(pa.table(rows), tmp / "data" / f"validation-{shard:05d}-of-00002.parquet")
    return [f"imagenet_hard:{tmp / 'data'}", f"imagenet_hard:{tmp}/data/validation-{{00000..00001}}-of-00002.parquet"]


def imagenet_v2(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for index in (0, 2, 10, 999):
        (tmp / "val" / str(index)).mkdir(parents=True)
        for name in "ab":
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp / "val" / str(index) / f"{name}.jpeg")
    return [f"imagenet_v2:{tmp / 'val'}"]


def imagenet9(tmp: Path) -> list[str]:
    """Of each class two pictures in three variations; index k of ImageNet belongs to class k % 27 where that is below nine."""
    rng = np.random.default_rng(0)
    folders = ("00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument",
               "07_primate", "08_fish")  # fmt: skip
    for variation in ("original", "mixed_same", "mixed_rand"):
        for name in folders:
            folder = tmp / "bg_challenge" / variation / "val" / name
            folder.mkdir(parents=True)
            for k in range(2):
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"fg_{k}.JPEG")
    mapping = {str(k): k % 27 if k % 27 < 9 else -1 for k in range(1000)}
    (tmp / "in_to_in9.json").write_text(json.dumps(mapping))
    return [f"imagenet9:{tmp / 'bg_challenge'}", f"imagenet9:{tmp / 'bg_challenge'}?variation=mixed_rand"]


def inaturalist(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        images, annotations = [], []
        for k in range(4):
            path = f"train_val2019/Plants/{k % 2}/{part}{k}.jpg"
            (tmp / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / path)
            images.append({"id": k, "file_name": path})
            annotations.append({"id": k, "image_id": k, "category_id": k % 2})
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k, "name": str(k)} for k in (0, 1)],
        }
        (tmp / f"{part}2019.json").write_text(json.dumps(content))
    return [f"inaturalist:{tmp}", f"inaturalist:{tmp}?year=2019&part=train"]


def masks(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks", "by_class/cat", "by_class/dog", "maps/cat", "maps/dog"):
        (tmp / folder).mkdir(parents=True)
    for k, (name, kind) in enumerate([("cat/a", 1), ("cat/b", 2), ("dog/c", 2)]):
        picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        values = np.zeros((40, 50), dtype=np.uint8)
        values[10 : 20 + k, 10:30] = kind
        values[9] = VOID
        picture.save(tmp / "images" / f"{k}.jpg")
        Image.fromarray(((values == kind) * 255).astype(np.uint8)).save(tmp / "masks" / f"{k}.png")
        picture.save(tmp / "by_class" / f"{name}.jpg")
        Image.fromarray(values).save(tmp / "maps" / f"{name}.png")
    return [f"masks:{tmp}", f"masks:{tmp}?images=by_class&masks=maps&kinds=2"]


def memory(tmp: Path) -> list[str]:
    import visionvitals

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(4)]
    return [
        visionvitals.images(pictures, [0, 1, 0, 1], name="indices"),
        visionvitals.images(pictures, ["cat", "dog", "cat", "dog"], name="names"),
    ]


def npz(tmp: Path) -> list[str]:
    """The set of docs/write_an_image_set.md."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    np.savez(tmp / "pets.npz", images=images, labels=np.arange(6) % 2, classes=["cat", "dog"])
    return [f"npz:{tmp / 'pets.npz'}"]


def objectnet(tmp: Path) -> list[str]:
    """Output 2 is number 0 of 2012 and called `great white shark, white shark`; outputs 0 and 1 are numbers 2 and 1."""
    rng = np.random.default_rng(0)
    root = tmp / "objectnet-1.0"
    (root / "mappings").mkdir(parents=True)
    tables = {
        "folder_to_objectnet_label.json": {"shark_f": "Shark", "fish_f": "Fish", "mug_f": "Mug"},
        "objectnet_to_imagenet_1k.json": {"Shark": "great white shark, white shark", "Fish": "goldfish; tench, Tinca"},
        "pytorch_to_imagenet_2012_id.json": {"0": 2, "1": 1, "2": 0},
    }
    for name, table in tables.items():
        (root / "mappings" / name).write_text(json.dumps(table))
    (root / "mappings" / "imagenet_to_label_2012_v2").write_text(
        "great white shark, white shark\ngoldfish\ntench, Tinca\n"
    )
    for name in ("shark_f", "fish_f", "mug_f"):
        (root / "images" / name).mkdir(parents=True)
        for k in range(2):
            pixels = np.full((44, 54, 3), (255, 0, 0), dtype=np.uint8)
            pixels[2:-2, 2:-2] = rng.integers(0, 200, (40, 50, 3), dtype=np.uint8)
            pixels[2:-2, 2:-2, 0] = 0
            Image.fromarray(pixels).save(root / "images" / name / f"{k}.png")
    return [f"objectnet:{tmp}", f"objectnet:{root}"]


def omniglot(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    tmp.mkdir(parents=True, exist_ok=True)
    for archive, alphabets in (
        ("images_background_small1", ("Greek", "Latin")),
        ("images_background_small2", ("Latin", "Tagalog")),
    ):
        with zipfile.ZipFile(tmp / f"{archive}.zip", "w") as file:
            for alphabet in alphabets:
                for k in range(4):
                    buffer = io.BytesIO()
                    Image.fromarray(rng.integers(0, 2, (35, 35), dtype=np.uint8) * 255).convert("1").save(buffer, "PNG")
                    name = f"{archive}/{alphabet}/character{k % 2 + 1:02d}/{k % 2:04d}_{k:02d}.png"
                    file.writestr(name, buffer.getvalue())
    return [f"omniglot:{tmp}", f"omniglot:{tmp / 'images_background_small1.zip'}?alphabets=Latin&drawings=1"]


def places365(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    tmp.mkdir(parents=True, exist_ok=True)
    (tmp / "categories_places365.txt").write_text("/a/airfield 0\n/a/apartment_building/outdoor 1\n")
    lists = {
        "places365_train_standard.txt": ["/a/airfield/00000001.jpg 0", "/a/apartment_building/outdoor/00000001.jpg 1"],
        "places365_val.txt": ["Places365_val_00000001.jpg 1", "Places365_val_00000002.jpg 0"],
    }
    for (file, lines), folder in zip(lists.items(), ("data_256", "val_256"), strict=True):
        (tmp / file).write_text("\n".join(lines) + "\n")
        for line in lines:
            path = tmp / folder / line.split()[0].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return [f"places365:{tmp}", f"places365:{tmp}?part=val"]


def voc(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    root = tmp / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    ids = [f"2007_{k:06d}" for k in range(3)]
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    for k, id in enumerate(ids):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / "JPEGImages" / f"{id}.jpg")
        labels = np.zeros((40, 50), dtype=np.uint8)
        labels[9:31, 9:31] = VOID
        labels[10:30, 10:30] = 15
        labels[10:20, 10:20] = k + 1
        drawn = Image.fromarray(labels).convert("P")
        drawn.putpalette(bytes((37 * v) % 256 for v in range(768)))
        drawn.putdata(labels.flatten().tolist())
        drawn.save(root / "SegmentationClass" / f"{id}.png")
    return [f"voc:{tmp / 'VOCdevkit'}", f"voc:{root}?split=val"]


def webdataset(tmp: Path) -> list[str]:
    rng = np.random.default_rng(0)
    tmp.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        pictures = [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]
        tar(tmp / f"n-{shard}.tar", {f"{k}": (encoded(p), {"cls": str(k % 2)}) for k, p in enumerate(pictures)})
        named = {f"{k}": (encoded(p), {"json": json.dumps({"kind": "ab"[k % 2]})}) for k, p in enumerate(pictures)}
        tar(tmp / f"w-{shard}.tar", named)
    return [f"webdataset:{tmp}/n-{{0..1}}.tar", f"webdataset:{tmp}/w-*.tar?label=kind"]


def parquet(tmp: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    (tmp / "set").mkdir(parents=True)
    for shard in range(2):
        pictures = [encoded(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
        cells = [{"bytes": data, "path": None} for data in pictures]
        pq.write_table(
            pa.table({"image": cells, "label": [0, 1, 1]}), tmp / "set" / f"{shard}.parquet", row_group_size=2
        )
        pq.write_table(pa.table({"photo": pictures, "kind": ["cat", "dog", "cat"]}), tmp / f"{shard}.parquet")
    return [f"parquet:{tmp / 'set'}", f"parquet:{tmp}/{{0..1}}.parquet?image=photo&label=kind"]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """A picture as a file holds it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tar(path: Path, members: dict[str, tuple[bytes, dict[str, str]]]) -> None:
    """A tar of key -> (a picture, ending -> text)."""
    with tarfile.open(path, "w") as file:
        for key, (picture, texts) in members.items():
            for ending, data in {"png": picture, **{e: text.encode() for e, text in texts.items()}}.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
