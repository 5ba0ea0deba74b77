"""``noctile cohort --truth``: every figure from polygons and label maps by another route."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from label_results import write_result
from scipy import stats
from shapely import Polygon, contains_xy
from statsmodels.stats.multitest import multipletests

from noctile.cli import main
from noctile.pipeline.export.geojson import write_geojson
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews

SHAPE, FACTOR, MPP = (112, 160), 4, 8.0
"""Size of a label map (px; two by two blocks), level-0 pixels of a label, and size of a label."""

CLASSES = ("tumor", "stroma", "fat")
INFOS = tuple(
    ClassInfo(code=code, name=name, color=(code, 9, 9), role=role)
    for code, name, role in ((7, "tumor", "tumor"), (2, "stroma", "tissue"), (1, "fat", "tissue"))
)
CODES = {info.name: info.code for info in INFOS}
PATIENTS, ANNOTATED = 26, 6
"""Number of patients, and of those of each group who are annotated."""


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["cohort", *map(str, words)])
    return done.exit_code, done.output


def truth_of(random: np.random.Generator, share: float) -> list[tuple[str, np.ndarray]]:
    """Areas of a slide, the largest first; rings are x and y in level 0."""
    height, width = (side * FACTOR for side in SHAPE)
    x = share * width
    tumor = [[-5, -5], [x, -5], [x + random.uniform(-60, 60), height], [-5, height + 5]]
    y, x = random.uniform(0, height - 150), random.uniform(0, width - 150)
    fat = [[x, y], [x + 150, y + random.uniform(0, 60)], [x + 70, y + 150]]
    whole = [[-10, -10], [width + 10, -10], [width + 10, height + 10], [-10, height + 10]]
    return [(n, np.array(r)) for n, r in (("Stroma", whole), ("tumor", tumor), ("FAT", fat))]


def drawn(areas: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Codes at the centres of the pixels of a label map; 0 outside of all areas."""
    y, x = (np.indices(SHAPE) + 0.5) * FACTOR
    codes = np.zeros(SHAPE, int)
    for name, ring in areas:
        codes[contains_xy(Polygon(ring), x, y)] = CODES[name.lower()]
    return codes


def feature(name: str | None, ring: np.ndarray, title: str = "") -> dict:
    about = {"name": title} | ({"classification": {"name": name}} if name else {})
    points = [*ring.tolist(), ring[0].tolist()]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [points]},
        "properties": about,
    }


def write_truth(path: Path, areas: list[tuple[str, np.ndarray]]) -> None:
    path.parent.mkdir(exist_ok=True)
    features = [feature(name, ring) for name, ring in areas]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


class Planted:
    """Cohort whose model overlooks a third of the tumor, and whose truth is drawn for some."""

    def __init__(self, path: Path) -> None:
        self.path, self.results, self.truth = path, path / "results", path / "truth"
        random, self.rows = np.random.default_rng(4), []
        for k in range(PATIENTS):
            for number in range(1 + k % 2):
                self._slide(random, k, f"s{k:02}-{number}")
        lines = [f"{r['slide_id']},{r['patient']},{r['group']}" for r in self.rows]
        self.clinical = path / "clinical.csv"
        self.clinical.write_text("\n".join(["slide_id,patient_id,arm", *lines]) + "\n")

    def _slide(self, random: np.random.Generator, k: int, slide_id: str) -> None:
        group = "ab"[k // 2 % 2]
        areas = truth_of(random, random.uniform(0.1, 0.5) + 0.3 * (group == "b"))
        true = drawn(areas)
        labels = true.copy()
        labels[(true == CODES["tumor"]) & (random.random(SHAPE) < 0.33)] = CODES["stroma"]
        analysed = random.random(SHAPE) < random.uniform(0.3, 0.9)
        analysed[:20] = False
        labels[~analysed] = 0
        bounds = (30, 50) if k % 3 else (0, 0)
        sizes = {"classes": INFOS, "mpp": MPP, "native_mpp": MPP / FACTOR, "bounds": bounds}
        write_result(self.results, labels.astype(np.uint8), slide_id, **sizes)
        known = k < 4 * ANNOTATED // 2
        if known:
            suffix = ".geojson.gz" if k % 2 else ".geojson"
            write_truth(self.truth / f"{slide_id}{suffix}", areas)
        row = {"slide_id": slide_id, "patient": f"p{k:02}", "group": group, "known": known}
        true[~analysed] = 0
        self.rows.append(row | {"labels": labels, "true": true})

    def shares(self) -> pd.DataFrame:
        """Predicted and true shares of each patient, from pixels."""
        found = []
        for patient, rows in pd.DataFrame(self.rows).groupby("patient"):
            row = {"patient": patient, "group": rows["group"].iloc[0]}
            for name, code in CODES.items():
                for kind in ("labels", "true"):
                    pixels = sum(int((m == code).sum()) for m in rows[kind])
                    row[f"{kind} {name}"] = pixels / sum(int((m > 0).sum()) for m in rows[kind])
                if not rows["known"].all():
                    row[f"true {name}"] = np.nan
            found.append(row)
        return pd.DataFrame(found)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return Planted(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def made(planted) -> Path:
    out = planted.path / "cohort"
    words = ("--clinical", planted.clinical, "--truth", planted.truth, "--out", out)
    code, text = call(planted.results, *words)
    assert code == 0, text
    assert "not used" not in text
    return out


def powered(f: np.ndarray, y: np.ndarray) -> tuple[float, float, int]:
    """Mean, variance and degrees of freedom, from a line through the annotated patients."""
    known = np.isfinite(y)
    n, line = int(known.sum()), stats.linregress(f[known], y[known])
    residual = y[known] - line.intercept - line.slope * f[known]
    mean = line.intercept + line.slope * f.mean()
    noise = residual @ residual / (n - 2)
    shift = (f.mean() - f[known].mean()) ** 2 / (np.var(f[known]) * n)
    return mean, noise * (1 / n + shift) + line.slope**2 * f.var(ddof=1) / len(f), n - 2


def test_means_are_those_of_a_line_through_the_annotated_patients(planted, made):
    shares = planted.shares()
    table = pd.read_parquet(made / "annotated.parquet").set_index(["group", "class"])
    assert len(table) == 9
    assert list(table.loc["b"].index) == list(CLASSES)
    for (group, name), row in table.iterrows():
        if pd.isna(group):
            continue
        own = shares[shares["group"] == group]
        f, y = own[f"labels {name}"].to_numpy(), own[f"true {name}"].to_numpy()
        mean, variance, df = powered(f, y)
        half = stats.t.ppf(0.975, df) * np.sqrt(variance)
        assert row["predicted_share"] == pytest.approx(f.mean(), rel=1e-4)
        assert (row["patients"], row["annotated"]) == (len(own), ANNOTATED)
        expected = (mean, mean - half, mean + half)
        assert tuple(row[["share", "share_low", "share_high"]]) == pytest.approx(expected, rel=1e-3)
        alone = stats.ttest_1samp(y[np.isfinite(y)], 0).confidence_interval()
        assert row["annotated_share"] == pytest.approx(np.nanmean(y), rel=1e-9)
        found = tuple(row[["annotated_low", "annotated_high"]])
        assert found == pytest.approx((alone.low, alone.high), rel=1e-6, abs=1e-9)


def test_all_patients_are_the_groups_weighted_with_their_sizes(planted, made):
    shares = planted.shares()
    table = pd.read_parquet(made / "annotated.parquet")
    sizes = shares["group"].value_counts() / len(shares)
    for name in CLASSES:
        own = table[table["class"] == name].set_index("group")
        (whole,) = (row for group, row in own.iterrows() if pd.isna(group))
        assert whole["share"] == pytest.approx(sum(sizes[g] * own.loc[g, "share"] for g in "ab"))
        assert whole["predicted_share"] == pytest.approx(shares[f"labels {name}"].mean(), rel=1e-4)
        parts = [
            powered(own_[f"labels {name}"].to_numpy(), own_[f"true {name}"].to_numpy())
            for _, own_ in shares.groupby("group")
        ]
        weighted = [sizes[g] ** 2 * v for g, (_, v, _) in zip("ab", parts, strict=True)]
        df = sum(weighted) ** 2 / sum(w**2 / 4 for w in weighted)
        half = stats.t.ppf(0.975, df) * np.sqrt(sum(weighted))
        assert whole["share_high"] - whole["share"] == pytest.approx(half, rel=1e-3)
        assert (whole["annotated"], whole["patients"]) == (2 * ANNOTATED, PATIENTS)


def test_groups_are_compared_by_welchs_t_with_holms_correction(planted, made):
    shares, ps = planted.shares(), []
    table = pd.read_parquet(made / "annotated_tests.parquet").set_index("class")
    for name in CLASSES:
        parts = [
            powered(own[f"labels {name}"].to_numpy(), own[f"true {name}"].to_numpy())
            for _, own in shares.groupby("group")
        ]
        (a, va, na), (b, vb, nb) = parts
        df = (va + vb) ** 2 / (va**2 / na + vb**2 / nb)
        ps.append(2 * stats.t.sf(abs(a - b) / np.sqrt(va + vb), df))
        row = table.loc[name]
        assert row["difference"] == pytest.approx(a - b, rel=1e-3)
        assert row["p"] == pytest.approx(ps[-1], rel=0.02)
        assert row["high"] - row["difference"] == pytest.approx(
            stats.t.ppf(0.975, df) * np.sqrt(va + vb), rel=1e-3
        )
    expected = multipletests(table["p"], method="holm")[1]
    assert table["p_holm"].to_numpy() == pytest.approx(expected)
    assert table.loc["tumor", "p_holm"] < 0.05


def test_the_model_errs_and_the_intervals_hold_the_truth_of_all_patients(planted, made):
    true = pd.DataFrame(planted.rows).groupby("patient")["true"].agg(list)
    share = np.mean(
        [sum((m == 7).sum() for m in ms) / sum((m > 0).sum() for m in ms) for ms in true]
    )
    table = pd.read_parquet(made / "annotated.parquet")
    row = table[table["group"].isna() & (table["class"] == "tumor")].iloc[0]
    assert row["share_low"] < share < row["share_high"]
    assert row["predicted_share"] < row["share_low"]
    assert row["share_high"] - row["share_low"] < row["annotated_high"] - row["annotated_low"]


def test_areas_of_slides_are_counted_pixels(planted, made):
    table = pd.read_parquet(made / "annotated_slides.parquet").set_index(["slide_id", "class"])
    known = [row for row in planted.rows if row["known"]]
    assert len(table) == 3 * len(known)
    assert set(table["status"]) == {"used"}
    mm2 = (MPP / 1000) ** 2
    for row in known:
        for name, code in CODES.items():
            found = table.loc[(row["slide_id"], name)]
            assert found["true_mm2"] == pytest.approx((row["true"] == code).sum() * mm2)
            assert found["predicted_mm2"] == pytest.approx(
                (row["labels"] == code).sum() * mm2, abs=1e-6
            )
            assert found["covered"] == 1


def test_page_methods_and_record_say_what_was_done(planted, made):
    page = (made / "cohort.html").read_text(encoding="utf-8")
    assert "Shares by patients annotated in full" in page
    assert 'data-code="annotated"' in page
    assert 'data-code="not_audited"' not in page
    assert "By the annotated patients, the share of tumor is smaller in a than in b" in page
    assert "chosen at random" in page
    methods = (made / "methods.md").read_text(encoding="utf-8")
    assert "18 slides of 12 of 26 patients in full" in methods
    assert "the slides of 12 patients, annotated in full by readers" in methods
    record = json.loads((made / "cohort.json").read_text())
    files = sorted(planted.truth.iterdir())
    assert record["truth"] == {path.name: sha256_of(path) for path in files}


def test_the_audit_and_the_annotations_are_independent(planted, tmp_path):
    words = ("--clinical", planted.clinical, "--out", tmp_path / "o")
    assert call(planted.results, *words)[0] == 0
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert not any("annotated" in name for name in names)
    assert "truth" not in json.loads((tmp_path / "o" / "cohort.json").read_text())
    columns = json.loads((tmp_path / "o" / "columns.json").read_text())
    assert "annotated" not in columns


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template")
    lines, labels = ["slide_id,arm"], np.full((96, 200), 2, np.uint8)
    for k in range(10):
        labels[:, : 20 + 10 * k] = 1
        write_result(path / "results", labels, f"s{k}", mpp=8.0, native_mpp=8.0)
        lines.append(f"s{k},{'ab'[k % 2]}")
    (path / "c.csv").write_text("\n".join(lines))
    (path / "truth").mkdir()
    return path


@pytest.fixture
def small(template, tmp_path) -> Path:
    """Results of ten slides of one patient each, without truth."""
    return shutil.copytree(template, tmp_path / "small")


def box(x: float, width: float, top: float = 0, height: float = 96) -> np.ndarray:
    return np.array([[x, top], [x + width, top], [x + width, top + height], [x, top + height]])


def compare(path: Path) -> tuple[int, str]:
    words = ("--clinical", path / "c.csv", "--truth", path / "truth", "--out", path / "cohort")
    return call(path / "results", *words)


def annotate(path: Path, *slides: int) -> None:
    for k in slides:
        areas = [("Stroma", box(0, 200)), ("Tumor", box(0, 30 + 9 * k + k % 3))]
        write_truth(path / "truth" / f"s{k}.geojson", areas)


def slides_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path / "cohort" / "annotated_slides.csv").set_index("file")


def test_partly_annotated_slides_are_named_and_not_used(small):
    annotate(small, *range(9))
    partial = [("Tumor", box(0, 100)), ("Stroma", box(100, 97))]
    write_truth(small / "truth" / "s8.geojson", partial)
    code, text = compare(small)
    assert code == 0, text
    assert "1 annotated slide not used: s8.geojson: 98.5 % of the slide is annotated" in text
    row = slides_of(small).loc["s8.geojson"].iloc[0]
    assert (row["status"], row["covered"]) == ("in_part", pytest.approx(0.985))
    shares = pd.read_csv(small / "cohort" / "annotated.csv").set_index(["group", "class"])
    assert shares.loc[("a", "tumor"), "annotated"] == 4
    page = (small / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "s8.geojson: 98.5 % of the slide is annotated, and 99 % is needed" in page
    assert 'data-code="annotated_in_part"' in page
    partial[-1] = ("Stroma", box(100, 98))
    write_truth(small / "truth" / "s8.geojson", partial)
    assert "not used" not in compare(small)[1]


def test_an_area_to_ignore_and_one_outside_the_frame_are_not_annotated(small):
    annotate(small, 0)
    write_truth(small / "truth" / "s0.geojson", [("Stroma", box(0, 200)), ("Ignore*", box(3, 10))])
    areas = [("Stroma", box(0, 200)), ("Region*", box(0, 96))]
    write_truth(small / "truth" / "s1.geojson", areas)
    assert compare(small)[0] == 0
    covered = slides_of(small)["covered"].groupby("file").first()
    assert covered["s0.geojson"] == pytest.approx(0.95)
    assert covered["s1.geojson"] == pytest.approx(0.48)


def test_a_patient_counts_if_all_slides_are_annotated(small):
    lines = ["slide_id,patient_id,arm", *(f"s{k},p{k % 8},{'ab'[k % 2]}" for k in range(10))]
    (small / "c.csv").write_text("\n".join(lines))
    annotate(small, *range(9))
    code, text = compare(small)
    assert code == 0, text
    assert "s1.geojson: another slide of patient p1 is not annotated in full" in text
    found = slides_of(small)["status"].groupby("file").first()
    assert found["s1.geojson"] == "patient_in_part"
    assert set(found.drop("s1.geojson")) == {"used"}
    table = pd.read_csv(small / "cohort" / "annotated.csv")
    assert set(table["group"]) == {"a"}
    page = (small / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "b (3 of 4)" in page


def test_slides_that_do_not_count_are_named_with_the_reason(small):
    annotate(small, *range(9))
    lines = (small / "c.csv").read_text().splitlines()
    (small / "c.csv").write_text("\n".join([*lines[:5], "s4,", *lines[6:10]]))
    Reviews(ResultsFolder(small / "results")).save("s8", "ann", "rejected", "", "")
    code, text = compare(small)
    assert code == 0, text
    rows = slides_of(small)
    assert rows.loc["s4.geojson", ["status", "reason"]].tolist() == ["not_counted", "no_value"]
    assert rows.loc["s8.geojson", ["status", "reason"]].tolist() == ["not_counted", "rejected"]
    assert "the slide does not count (rejected)" in text


def test_rare_classes_are_named_and_classes_of_nobody_have_no_interval(small):
    """Two annotated patients of b have tumor, none of a has any."""
    for k in range(10):
        areas = [("Stroma", box(0, 200)), *[("Tumor", box(0, 60))] * (k in (3, 5))]
        write_truth(small / "truth" / f"s{k}.geojson", areas)
    assert compare(small)[0] == 0
    shares = pd.read_csv(small / "cohort" / "annotated.csv").set_index(["group", "class"])
    assert shares.loc[("b", "tumor"), ["with_class", "share"]].tolist() == [2, pytest.approx(0.12)]
    assert np.isfinite(shares.loc[("b", "tumor"), "share_high"])
    assert shares.loc[("a", "tumor"), ["with_class", "share"]].tolist() == [0, 0]
    assert np.isnan(shares.loc[("a", "tumor"), "share_high"])
    assert pd.read_csv(small / "cohort" / "annotated_tests.csv").empty
    page = (small / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "others lack them: tumor in b (2 of 5)." in page


def test_too_few_annotations_give_no_figure_and_say_so(small):
    annotate(small, 0, 1, 2)
    code, text = compare(small)
    assert code == 0, text
    page = (small / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "3 of 10 patients are annotated in full; 4 are needed in a group" in page
    assert 'data-code="not_audited"' in page
    assert pd.read_csv(small / "cohort" / "annotated.csv").empty


def test_regions_that_reviewers_left_out_count_nowhere(small):
    """Without the left half, the truth need not cover it, and the prediction loses it."""
    annotate(small, *range(9))
    reviews = Reviews(ResultsFolder(small / "results"))
    for slide_id in ("s0", "s9"):
        reviews.save_regions(slide_id, "ann", [feature("pen", box(0, 100))], "")
    write_truth(small / "truth" / "s0.geojson", [("Stroma", box(100, 100))])
    code, text = compare(small)
    assert (code, "not used" in text) == (0, False), text
    row = slides_of(small).loc["s0.geojson"].set_index("class")
    half = 100 * 96 * 64e-6
    assert row.loc["tumor", ["predicted_mm2", "true_mm2"]].tolist() == [0, 0]
    assert row.loc["stroma", ["predicted_mm2", "true_mm2"]].tolist() == pytest.approx([half, half])
    shares = pd.read_csv(small / "cohort" / "annotated.csv").set_index(["group", "class"])
    predicted = [(20 + 10 * k) / 200 for k in (1, 3, 5, 7)] + [10 / 100]
    assert shares.loc[("b", "tumor"), "predicted_share"] == pytest.approx(np.mean(predicted))


@pytest.mark.parametrize(
    ("name", "areas", "message"),
    [
        ("s0", [("Necrosis", box(0, 9))], "has no class 'Necrosis'; known are ignore*, tumor, str"),
        ("s0", [("Tumour", box(0, 9))], "did you mean 'tumor'"),
        ("s77", [("Tumor", box(0, 9))], "the results know no slide 's77'"),
        ("", [], "holds no .geojson"),
    ],
)
def test_unusable_annotations_are_refused(small, name, areas, message):
    if name:
        write_truth(small / "truth" / f"{name}.geojson", areas)
    code, text = compare(small)
    assert (code, message in " ".join(text.split())) == (2, True), text
    assert not (small / "cohort").exists()


def test_two_files_of_a_slide_and_damaged_files_are_refused(small):
    annotate(small, 0)
    write_truth(small / "truth" / "s0.geojson.gz", [("Tumor", box(0, 9))])
    code, text = compare(small)
    assert (code, "are of one slide" in text) == (2, True), text
    (small / "truth" / "s0.geojson.gz").unlink()
    (small / "truth" / "s0.geojson").write_bytes(b"\x1f\x8bdamaged")
    code, text = compare(small)
    assert (code, "cannot be read" in text) == (2, True), text


def test_suffixes_may_be_in_upper_case(small):
    annotate(small, *range(8))
    for k, suffix in enumerate((".GEOJSON", ".GeoJSON")):
        path = small / "truth" / f"s{k}.geojson"
        path.rename(path.with_suffix(suffix))
    code, text = compare(small)
    assert (code, "not used" in text) == (0, False), text


def test_an_unchanged_export_is_no_truth(small):
    for name in ("s0", "s1"):
        folder = small / "results" / "slides" / name
        summary = json.loads((folder / "summary.json").read_text())
        source = ExportSource.open(folder / "mask.ome.zarr", summary)
        write_geojson(source, small / "truth" / f"{name}.geojson")
    code, text = compare(small)
    assert (code, "predictions, not the truth" in text) == (2, True), text
    for path in (small / "truth").glob("*.geojson"):
        content = json.loads(path.read_text())
        del content["noctile"]  # as QuPath writes it
        path.write_text(json.dumps(content))
    code, text = compare(small)
    assert code == 0, text
    found = slides_of(small)
    assert (found["covered"] == 1).all()
    assert found["true_mm2"].to_numpy() == pytest.approx(found["predicted_mm2"].to_numpy())


def test_slides_of_other_classes_are_refused(small):
    write_result(small / "results", np.full((96, 96), 7, np.uint8), "s10", classes=INFOS, mpp=8.0)
    (small / "c.csv").write_text((small / "c.csv").read_text() + "\ns10,a")
    annotate(small, 0)
    code, text = compare(small)
    assert (code, "has other classes" in text) == (2, True), text
