"""Folders, manifests, cards, settings, annotations and stores that were made to do damage."""

import csv
import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import zarr
from malformed.limits import within_limits
from malformed.looks import FRAME, boxes_of, ids, read_and_draw, read_store, slides_of
from tiny_slides import picture, write_tiff

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.csv_cells import unescape_cell
from noctile.pipeline.errors import ModelError, NoctileError, UsageError
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.models.folder import find_model, read_card, write_card, write_config
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold
from noctile.pipeline.report.gallery import draw_gallery, shrink_sample
from noctile.pipeline.slides.manifest import read_manifest
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import load_scheme
from noctile.pipeline.truth.split import Split, read_split, write_split
from noctile.workflows.commands.annotate import annotate
from noctile.workflows.results.files import read_json
from noctile.workflows.settings import load_settings

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 10_000


def refusal(read: Any, *arguments: Any) -> str:
    """What a call says when it refuses; a documented error, and one that a screen holds."""
    found = within_limits(read, *arguments)
    assert isinstance(found, NoctileError), repr(found)[:500]
    assert len(str(found)) < 6000
    return str(found)


class TestFolders:
    def test_a_link_out_of_the_folder_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.svs").touch()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.svs").touch()
        (tmp_path / "in" / "b.svs").symlink_to(tmp_path / "elsewhere.svs")
        assert ids(tmp_path / "in" / "b.svs") == ["b"]
        assert ids(tmp_path / "in" / "*.svs") == ids(tmp_path / "in") == ["a", "b"]

    def test_a_link_inside_the_folder_is_the_file_that_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").touch()
        (tmp_path / "b.svs").symlink_to("a.svs")
        assert ids(tmp_path) == ["a"]

    @pytest.mark.parametrize("argument", [".", "**/*.svs", "**", "*"])
    def test_circles_of_links_end(self, tmp_path: Path, argument: str) -> None:
        (tmp_path / "a.svs").touch()
        for name in (
            "one",
            "two",
            "three",
        ):  # 3^40 ways to go round before the system says that they are too many
            (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "self.svs").symlink_to("self.svs")
        assert within_limits(ids, tmp_path / argument) == ["a"]

    @pytest.mark.parametrize("argument", [".", "*", "**", "*.svs", "gone.svs", "round.svs"])
    def test_only_broken_links_are_an_error(self, tmp_path: Path, argument: str) -> None:
        (tmp_path / "gone.svs").symlink_to("nothing")
        (tmp_path / "round.svs").symlink_to("round.svs")
        with pytest.raises(UsageError, match=r"no slides: .*\.svs is left out: the link leads"):
            ids(tmp_path / argument)

    def test_a_broken_link_prints_no_control_characters(self, tmp_path: Path) -> None:
        (tmp_path / "a\x1b[2J.svs").symlink_to("nothing\n")
        with pytest.raises(UsageError, match="left out") as error:
            ids(tmp_path)
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        "name", ["a" * 5000, "~nobody-of-that-name/a.svs", "a\0b.svs", "*" * 300, "[", "a**b"]
    )
    def test_names_that_no_file_can_have_are_usage_errors(self, name: str) -> None:
        assert "\0" in name or name[:20] in refusal(ids, name)

    def test_a_name_that_is_not_utf8_is_a_usage_error(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.svs")).touch()
        with pytest.raises(UsageError, match=r"caf\\udce9\.svs': its name is not UTF-8; rename"):
            ids(tmp_path)

    @pytest.mark.parametrize("char", ["\n", "\r", "\x1b[2J", "\x7f", "\u2028"])
    def test_a_name_with_control_characters_is_a_usage_error(
        self, tmp_path: Path, char: str
    ) -> None:
        (tmp_path / f"a{char}b.svs").touch()
        with pytest.raises(UsageError, match="control character") as error:
            ids(tmp_path)
        assert char not in str(error.value)

    @pytest.mark.parametrize(
        "stem",
        ["\U0001f600", "a" * 250, "CON", "nul.x", "com1", "a:b", "a|b", "x.", "..x", "é" * 120],
    )
    def test_any_other_name_becomes_an_id_that_can_name_a_folder(
        self, tmp_path: Path, stem: str
    ) -> None:
        (tmp_path / f"{stem}.svs").touch()
        (found,) = ids(tmp_path / f"{stem}.svs")
        assert len(found.encode()) <= 128
        assert not set(found) & set('/\\<>:"|?*')
        assert found.partition(".")[0].upper() not in {"CON", "NUL", "COM1"}
        assert not found.endswith(".")
        (tmp_path / found).mkdir()

    def test_names_that_differ_only_in_case_or_composition_get_hashes(self, tmp_path: Path) -> None:
        for name in ("Slide", "slide", "caf\u00e9", "cafe\u0301"):
            (tmp_path / f"{name}.svs").touch()
        found = ids(tmp_path)
        assert len({slide_id[-8:] for slide_id in found}) == 4

    def test_a_file_named_like_the_id_of_another_is_an_error(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.svs").touch()
        stolen = next(slide_id for slide_id in ids(tmp_path) if slide_id.startswith("a-"))
        (tmp_path / f"{stolen}.svs").touch()
        with pytest.raises(UsageError, match="would both be called"):
            ids(tmp_path)


class TestManifest:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xff\xfep\0a\0t\0h\0", "is not UTF-8"),
            (b"path\n\xe9.svs\n", "is not UTF-8"),
            (b"path\na\0b.svs\n", "control character"),
            (b'path\n"a\nb.svs"\n', "control character"),
            (b"path\n~nobody-of-that-name/a.svs\n", "home"),
            (
                b"path," + b",".join(b"c%d" % k for k in range(1_000_000)) + b"\na.svs\n",
                "columns, more than 1000",
            ),
            (b"path\n" + b"a" * 200_000 + b"\n", "field larger than field limit"),
            (b'path\n"a.svs\n', "unexpected end of data"),
            (b"\0" * 1000, "no column slide_id or path"),
            (b"slide_id\nCON\n", "Windows"),
            (b"slide_id\nnul.a\n", "Windows"),
            (b"slide_id\na.\n", "Windows"),
            (b"slide_id\n../a\n", "dot"),
            (b"slide_id\na/b\n", "control character or one of"),
            (b"slide_id\na\\b\n", "control character or one of"),
            (b"slide_id\na\x1bb\n", "control character or one of"),
            (b"slide_id\n" + b"a" * 300 + b"\n", "longer than 128 bytes"),
            ("slide_id\nA\u0301\n\u00c1\n".encode(), "was used before"),
            ("slide_id\na\u202eb\n".encode(), "cannot be printed"),
            (b"path,mpp\na.svs," + DIGITS.encode() + b"\n", "is not a positive number"),
            (b"path,mpp\na.svs,nan\n", "is not a positive number"),
            (b"path,mpp\na.svs,1e999\n", "is not a positive number"),
            (b"path,mpp\na.svs,-0.25\n", "is not a positive number"),
        ],
        ids=lambda value: repr(value)[:24],
    )
    def test_a_bad_manifest_is_an_error_with_the_reason(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        (tmp_path / "m.csv").write_bytes(content)
        assert says in refusal(slides_of, tmp_path / "m.csv")

    def test_a_circular_path_in_a_manifest_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").symlink_to("a.svs")
        (tmp_path / "m.csv").write_text("path\na.svs\n")
        assert slides_of(tmp_path / "m.csv") == ["a"]

    def test_an_endless_device_is_no_manifest(self) -> None:
        assert "pipe or a device, not a file" in refusal(read_manifest, Path("/dev/zero"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    classes = [
        {"code": 2, "name": "stroma", "color": (0, 160, 0), "role": "tissue"},
        {"code": 1, "name": "tumor", "color": (200, 0, 0), "role": "tumor"},
    ]
    about = {
        "name": "m",
        "description": "d",
        "licence": "CC0-1.0",
        "mpp": 0.5,
        "tile_px": 64,
        "overlap_px": 16,
    }
    save_threshold(
        tmp_path / "model", ThresholdConfig(thresholds_od=(0.3,)), {**about, "classes": classes}
    )
    return tmp_path / "model"


CLASS = '{"code": 1, "name": "a", "color": [1, 2, 3], "role": "tumor"}'
CARDS = {
    "deep": DEEP,
    "deep in a field": '{"training": {"a": ' + "[" * 500 + "]" * 500 + "}}",
    "digits": '{"mpp": ' + DIGITS + "}",
    "10 MB of classes": '{"classes": [' + ", ".join([CLASS] * 160_000) + "]}",
    "10 MB of names": '{"' + "n" * 10_000_000 + '": 1}',
    "a million fields": "{" + ",".join(f'"f{k}": 1' for k in range(700_000)) + "}",
    "20 MB": '"' + "a" * 20_000_000 + '"',
    "NaN": "NaN",
    "UTF-16": "\ud7ff",
}


class TestModels:
    @pytest.mark.parametrize("name", CARDS)
    def test_a_bad_card_is_a_short_error(self, model: Path, name: str) -> None:
        (model / "card.json").write_text(CARDS[name], "utf-16" if name == "UTF-16" else "utf-8")
        assert "card.json" in refusal(read_card, model)

    @pytest.mark.parametrize(
        "fields",
        [
            *(
                {"mpp": value}
                for value in (float("nan"), float("inf"), 1e308, 0, -1, "x", None, [], True)
            ),
            *({"mean": [value, 0.5, 0.5]} for value in (float("nan"), float("-inf"), 1e308)),
            *(
                {"std": [value, 0.5, 0.5]}
                for value in (float("nan"), float("inf"), 1e308, 1e-308, 0)
            ),
            *({"name": value} for value in ("../x", "a/b", "", "a\n", "a" * 65, "\0")),
            {"tile_px": 2**31},
            {"overlap_px": 10**30},
            {"sha256": "../../etc/passwd"},
            {"path": "/etc/passwd"},
        ],
        ids=str,
    )
    def test_an_impossible_field_is_named(self, model: Path, fields: dict[str, Any]) -> None:
        card = json.loads((model / "card.json").read_text())
        (model / "card.json").write_text(json.dumps(card | fields))
        if fields == {"mpp": True}:
            pytest.skip("true is 1, which is a pixel size")
        with pytest.raises(ModelError, match=next(iter(fields))):
            read_card(model)

    @pytest.mark.parametrize("name", ["card.json", "config.json"])
    def test_a_pipe_in_the_folder_of_a_model_is_an_error(self, model: Path, name: str) -> None:
        (model / name).unlink()
        os.mkfifo(model / name)
        assert f"has no {name}" in refusal(find_model, model)
        assert "pipe or a device" in refusal(load_predictor, model)

    @pytest.mark.parametrize(
        "config",
        [DEEP, '{"thresholds_od": [' + DIGITS + "]}", '{"kind": "threshold", "x": 1}', "[]"],
    )
    def test_a_bad_config_is_an_error(self, model: Path, config: str) -> None:
        (model / "config.json").write_text(config)
        card = json.loads((model / "card.json").read_text())
        assert "config.json" in refusal(load_predictor, sealed(model, card))

    @pytest.mark.parametrize(
        "settings",
        [
            {"_model_class": "Unet", "decoder_channels": [2**30] * 5},
            {"_model_class": "Unet", "decoder_channels": [1] * 10_000},
            {"_model_class": "Unet", "encoder_depth": 10**9},
            {"_model_class": "Unet", "classes": 10**9},
            {"_model_class": "PSPNet", "psp_out_channels": 2**31},
            {"_model_class": "Unet", "encoder_name": "../../evil"},
            {"_model_class": "Unet", "encoder_name": "hf-hub:somebody/evil"},
            {"_model_class": "__import__"},
        ],
        ids=str,
    )
    def test_a_network_of_absurd_size_or_name_is_not_built(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        from noctile.pipeline.models.network import build_network

        assert "config" in refusal(build_network, settings, "config")

    def test_weights_that_are_a_pickle_are_not_opened(self, tmp_path: Path) -> None:
        folder, trap = network(tmp_path), tmp_path / "sprung"
        with (folder / "model.safetensors").open("wb") as file:
            pickle.dump(Trap(trap), file)
        assert "cannot be read" in refusal(load_predictor, seal(folder))
        assert not trap.exists()

    def test_weights_of_other_shapes_and_types_are_errors(self, tmp_path: Path) -> None:
        folder = network(tmp_path)
        for dtype in (torch.float8_e4m3fn, torch.complex64, torch.bool):
            weights = {
                "weight": torch.zeros(2, 3, 1, 1).to(dtype),
                "bias": torch.zeros(2).to(dtype),
            }
            safetensors.torch.save_file(weights, folder / "model.safetensors")
            assert "model.safetensors" in refusal(load_predictor, seal(folder))
        (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
        assert "cannot be read" in refusal(load_predictor, seal(folder))


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def network(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    write_config(folder, {"_model_class": "Pointwise", "classes": 2})
    safetensors.torch.save_file(
        {"weight": torch.zeros(2, 3, 1, 1), "bias": torch.zeros(2)}, folder / "model.safetensors"
    )
    return seal(folder)


def seal(folder: Path) -> Path:
    """Write the card of a network of two classes, with the hash of what its weights are."""
    classes = [{"code": k, "name": f"c{k}", "color": (k, k, k), "role": "tissue"} for k in (1, 2)]
    about = {
        "name": "n",
        "description": "d",
        "licence": "CC0-1.0",
        "mpp": 0.5,
        "tile_px": 64,
        "overlap_px": 16,
    }
    write_card(folder, {**about, "classes": classes})
    return folder


def sealed(model: Path, card: dict[str, Any]) -> Path:
    """The hash of a model's config written into its card."""
    import hashlib

    sha256 = hashlib.sha256((model / "config.json").read_bytes()).hexdigest()
    (model / "card.json").write_text(json.dumps(card | {"sha256": sha256}))
    return model


TOML = {
    "deep": "a = " + DEEP,
    "digits": f"workers = {DIGITS}",
    "NaN": "mpp = nan",
    "no mpp": "mpp = -1.0",
    "tissue in atoms": "tissue = {mpp = 1e-9}",
    "tissue in nothing": "tissue = {mpp = nan}",
    "less than no tissue": "tissue = {min_area_mm2 = -1.0}",
    "endless tissue": "tissue = {max_hole_mm2 = inf}",
    "a million workers": "workers = 1_000_000",
    "a million threads": "threads = 1_000_000",
    "a device out of line": 'device = "cuda:0; rm"',
    "unknown": '"\\u0000" = 1',
    "a date": "mpp = 2020-01-01",
    "2 MB": "# " + "a" * 2_000_000,
    "a million keys": "\n".join(f"k{k} = 1" for k in range(60_000)),
}


class TestSettings:
    @pytest.mark.parametrize("name", TOML)
    def test_impossible_settings_are_a_short_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "s.toml").write_text(TOML[name], "utf-8")
        assert "settings" in refusal(load_settings, tmp_path / "s.toml")

    @pytest.mark.parametrize("content", [b"\xff\xfem\0", b"mpp = \xe9", b"\0"])
    def test_settings_that_are_no_text_are_an_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "s.toml").write_bytes(content)
        assert "s.toml" in refusal(load_settings, tmp_path / "s.toml")

    @pytest.mark.parametrize(
        "content",
        ["a = " + DEEP, f"ignore = [{DIGITS}]", "name = nan", "\0", "[[classes]]\n" * 50_000],
    )
    def test_a_bad_class_scheme_is_an_error(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "c.toml").write_text(content)
        assert "class scheme" in refusal(load_scheme, str(tmp_path / "c.toml"))

    @pytest.mark.parametrize("content", [DEEP, DIGITS, "5", "[]", "\0", "{"])
    def test_a_plan_or_summary_with_other_content_is_a_damaged_store(
        self, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "plan.json").write_text(content)
        assert "is damaged" in refusal(read_json, tmp_path / "plan.json")


def area(*rings: Any, label: str = "Tumor") -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return {"geometry": geometry, "properties": {"classification": {"name": label}}}


def ring_of(points: int) -> list[list[float]]:
    angle = np.linspace(0, 2 * np.pi, points)
    return np.stack([5000 + 2500 * np.cos(angle), 5000 + 2500 * np.sin(angle)], axis=1).tolist()


SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9]]
GEOJSON = {
    "deep": DEEP,
    "digits": json.dumps([area([[0, 0], [1, 1]])]).replace("1", DIGITS),
    "a large whole number": json.dumps([area([[10**400, 0], [1, 1]])]),
    "NaN": json.dumps([area([[float("nan"), 0], [1, 1]])]),
    "infinity": json.dumps([area([[float("inf"), 0], [1, 1]])]),
    "1e308": json.dumps([area([[1e308, 0], [-1e308, 1]])]),
    "far out": json.dumps([area([[2**31, 2**31], [0, 0], [1, 0]])]),
    "no points": json.dumps([area([])]),
    "no rings": json.dumps([area()]),
    "empty points": json.dumps([area([[], []])]),
    "one number a point": json.dumps([area([[1], [2]])]),
    "text": json.dumps([area([["a", "b"]])]),
    "names": json.dumps([area("abc")]),
    "a list for a feature": "[[1]]",
    "nothing": "",
    "a million features": "[" + ",".join(["1"] * 1_000_000) + "]",
    "a class of 10 MB": json.dumps([area(SQUARE, label="x" * 5_000_000)]),
}


class TestAnnotations:
    @pytest.mark.parametrize("name", GEOJSON)
    def test_bad_annotations_are_an_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a.geojson").write_text(GEOJSON[name])
        assert "annotations" in refusal(read_and_draw, tmp_path / "a.geojson")

    def test_gzip_that_unpacks_to_gigabytes_is_not_unpacked(self, tmp_path: Path) -> None:
        (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b" " * 2**28, 1))
        assert "unpacks to more than" in refusal(read_and_draw, tmp_path / "a.geojson.gz")

    def test_too_large_annotations_are_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "a.geojson").open("wb") as file:
            file.truncate(2**33)
        assert "It has more than" in refusal(read_and_draw, tmp_path / "a.geojson")

    def test_an_outline_of_a_hundred_thousand_points_is_drawn(self, tmp_path: Path) -> None:
        (tmp_path / "a.geojson").write_text(json.dumps([area(ring_of(100_000))]))
        assert within_limits(read_and_draw, tmp_path / "a.geojson") == 1

    def test_an_outline_that_runs_up_and_down_all_rows_takes_little_memory(
        self, tmp_path: Path
    ) -> None:
        zigzag = [
            [k / 10, 8000 * (k % 2)] for k in range(5_000)
        ]  # 40 million crossings: 320 MB for each number of them
        (tmp_path / "a.geojson").write_text(json.dumps([area(zigzag)]))
        assert within_limits(read_and_draw, tmp_path / "a.geojson") == 1

    def test_many_areas_are_joined_in_a_short_time(self, tmp_path: Path) -> None:
        areas = [
            area([[x, y], [x + 5, y], [x, y + 5]])
            for x in range(0, 1400, 10)
            for y in range(0, 1400, 10)
        ]
        (tmp_path / "a.geojson").write_text(json.dumps(areas))
        assert len(within_limits(boxes_of, tmp_path / "a.geojson")) == 140 * 140


CLASSES = (ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    layout = MaskLayout(FRAME, 512, 128, CLASSES)
    small = FRAME.coarser(16)
    overview = np.zeros((small.extent.height, small.extent.width, 3), np.uint8)
    about = {"slide": {"mpp": [0.5, 0.5], "bounds_px": [0, 0, 600, 700]}}
    MaskStore.create(tmp_path / "mask.ome.zarr", layout, overview, small, about)
    return tmp_path / "mask.ome.zarr"


def foreign(path: Path, name: str, **about: Any) -> Path:
    """Another array in the place of one of a mask's."""
    usual = {
        "shape": (600, 700),
        "chunks": (128, 128),
        "shards": (512, 512),
        "dtype": "uint8",
        "fill_value": 0,
    }
    zarr.create_array(path / name, overwrite=True, **usual | about)
    return path


class TestStores:
    @pytest.mark.parametrize(
        "about",
        [
            {"shape": (500, 700)},
            {"shape": (600, 700, 1), "chunks": (128, 128, 1), "shards": (512, 512, 1)},
            {"shape": (2**40, 2**40)},
            {"dtype": "float64"},
            {"dtype": "uint16"},
            {"chunks": (64, 64)},
            {"chunks": (2**20, 2**20), "shards": None, "fill_value": 7},
            {"shards": (2**20, 2**20)},
            {"shards": None},
        ],
        ids=str,
    )
    def test_an_array_with_other_properties_is_a_damaged_store(
        self, mask: Path, about: dict[str, Any]
    ) -> None:
        assert "are not" in refusal(read_store, foreign(mask, "labels/classes/0", **about))

    def test_maps_and_thumbnails_of_another_shape_are_a_damaged_store(self, mask: Path) -> None:
        foreign(
            mask.with_name("heat.ome.zarr"),
            "0",
            shape=(2, 600, 700),
            chunks=(1, 64, 64),
            shards=(2, 64, 64),
        )
        assert "heat.ome.zarr/0 cannot be read" in refusal(read_store, mask)

    @pytest.mark.parametrize(
        "layout",
        [
            None,
            [],
            {},
            {"frame": 5},
            {"frame": {"extent_px": [-1, 2], "mpp": [1, 1]}},
            {"frame": {"extent_px": ["a", "b"], "mpp": [1, 1]}},
            {"frame": {"extent_px": [2**62, 2**62], "mpp": [1, 1]}},
            {"block_px": 0},
            {"block_px": "x"},
            {"chunk_px": None},
            {"classes": [{"code": 0}]},
            {"classes": "x"},
        ],
        ids=str,
    )
    def test_other_attributes_are_a_damaged_store(self, mask: Path, layout: Any) -> None:
        meta = mask / "labels" / "classes" / "zarr.json"
        values = json.loads(meta.read_text())
        about = values["attributes"]["noctile"]
        about["layout"] = (
            {**about["layout"], **layout} if isinstance(layout, dict) and layout else layout
        )
        meta.write_text(json.dumps(values))
        assert "cannot be read" in refusal(read_store, mask)

    @pytest.mark.parametrize(
        "content",
        ["", "5", "[]", DEEP, '{"zarr_format": 3}', "\0", '{"zarr_format": ' + DIGITS + "}"],
    )
    def test_bad_metadata_are_a_damaged_store(self, mask: Path, content: str) -> None:
        (mask / "labels" / "classes" / "zarr.json").write_text(content)
        assert "cannot be read" in refusal(read_store, mask)
        (mask / "labels" / "classes" / "0" / "zarr.json").write_text(content)


FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    " =1",
    "\t=1",
    "\uff1d1",
    "=HYPERLINK(0)",
]


class TestTables:
    def test_the_table_of_a_cohort_has_no_formulas(self, tmp_path: Path) -> None:
        rows = [SlideRow(f, Path("/@x"), f, f, "failed", f, {}, None, ((f, f),)) for f in FORMULAS]
        write_csv(cohort_table(rows, CLASSES), tmp_path / "slides.csv")
        with (tmp_path / "slides.csv").open(newline="") as file:
            cells = {cell for row in csv.reader(file) for cell in row}
        assert {unescape_cell(cell) for cell in cells} >= set(FORMULAS)
        assert not {cell for cell in cells if cell in FORMULAS}

    def test_a_split_with_formulas_in_names_is_read_back(self, tmp_path: Path) -> None:
        regions = [Region(f, f"p{f}", "=I", "@s", tmp_path, tmp_path) for f in FORMULAS]
        split = Split({r.region_id: "test" for r in regions}, {r.patient: "test" for r in regions})
        write_split(tmp_path / "split.csv", regions, split)
        with (tmp_path / "split.csv").open(newline="") as file:
            assert all(row["region_id"].startswith("'") for row in csv.DictReader(file))
        assert read_split(tmp_path / "split.csv") == split

    def test_the_table_of_annotated_slides_has_no_formulas(self, tmp_path: Path) -> None:
        write_tiff(tmp_path / "=1+1.tif", [picture(128, 128)], 0.25, 0.25)
        (tmp_path / "@a.tif").write_bytes(b"no slide")
        rows = annotate([tmp_path], tmp_path / "out")
        assert {row.slide_id for row in rows} == {"=1+1", "@a"}
        with (tmp_path / "out" / "annotated.csv").open(newline="") as file:
            assert {row["slide_id"] for row in csv.DictReader(file)} == {"'=1+1", "'@a"}

    @pytest.mark.parametrize(
        "title",
        ["a\nb", "<script>alert(1)</script>", "\U0001f600", "a" * 5000, "\x1b[2J", "$\\frac$", ""],
    )
    def test_the_gallery_accepts_any_name(self, title: str) -> None:
        pixels = LabelledPixels(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), 0.5)
        shown = shrink_sample(title, "50 % right", pixels, np.zeros((8, 8), np.uint8))
        assert draw_gallery([shown], CLASSES).startswith(b"\x89PNG")
