"""Points of an audit go to QuPath and come back as answers, or as truth for a training."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from label_results import write_result

from noctile.console.audit import command
from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.geojson import read_annotations
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.audit_exchange import (
    MOST_MOVED_UM,
    export_points,
    import_answers,
)
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.layout import ResultsFolder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two slides of 0.25 um with 20 points; one slide has bounds."""
    out = tmp_path_factory.mktemp("drawn") / "results"
    labels = np.full((200, 300), 2, np.uint8)
    labels[:, :150] = 1
    write_result(out, labels, "a")
    write_result(out, labels, "b", bounds=(30, 70))
    open_audit(out, AuditRequest(points=20))
    return out


@pytest.fixture
def audits(drawn: Path, tmp_path: Path) -> tuple[ResultsFolder, Audits]:
    folder = ResultsFolder(shutil.copytree(drawn, tmp_path / "results"))
    return folder, Audits(folder)


def edit(path: Path, change: Any) -> Path:
    """Change each feature of a file, as a person does in QuPath."""
    collection = json.loads(path.read_text())
    for k, feature in enumerate(collection["features"]):
        change(k, feature)
    path.write_text(json.dumps(collection))
    return path


def classify(name: str) -> Any:
    def change(_: int, feature: dict[str, Any]) -> None:
        feature["properties"]["classification"] = {"name": name, "color": [1, 2, 3]}

    return change


def test_points_go_out_without_the_prediction_at_their_place(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    files = export_points(*audits, tmp_path / "out")
    assert sorted(path.name for path in files) == ["a.geojson", "b.geojson"]
    text = "".join(path.read_text() for path in files)
    assert "tumor" not in text
    assert "stroma" not in text
    points = {point.point_id: point for point in audits[1].points()}
    ids = set()
    for path in files:
        for feature in json.loads(path.read_text())["features"]:
            point = points.pop(feature["properties"]["name"])
            x, y = feature["geometry"]["coordinates"]
            bounds = (30, 70) if path.name == "b.geojson" else (0, 0)
            assert (y, x) == pytest.approx((point.y_px - bounds[0], point.x_px - bounds[1]))
            ids.add(feature["id"])
    assert (points, len(ids)) == ({}, 20)


def test_points_of_a_slide_without_a_result_are_left_out_and_refused(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    export_points(*audits, tmp_path / "out")
    shutil.rmtree(audits[0].slide("b").path)
    assert [path.name for path in export_points(*audits, tmp_path / "again")] == ["a.geojson"]
    answered = edit(tmp_path / "out" / "b.geojson", classify("tumor"))
    with pytest.raises(UsageError, match=r"b has no result any more; copy .*slides/b back"):
        import_answers(*audits, [answered], "ada")
    shutil.rmtree(audits[0].slide("a").path)
    with pytest.raises(UsageError, match="no slide with points has a result any more"):
        export_points(*audits, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_classes_come_back_as_answers_and_go_on_as_truth(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    one, other = export_points(*audits, tmp_path / "out")
    names = ["Tumor", "stroma", "Unsure", "unreadable"]
    edit(one, lambda k, feature: classify(names[k % 4])(k, feature))
    edit(other, lambda k, feature: classify("Stroma")(k, feature) if k == 0 else None)
    count = len(json.loads(one.read_text())["features"]) + 1
    assert import_answers(*audits, [one, other], "ada") == count
    found = {row.point_id: row.answer for row in audits[1].answers()}
    for k, feature in enumerate(json.loads(one.read_text())["features"]):
        assert found.pop(feature["properties"]["name"]) == names[k % 4].lower()
    assert list(found.values()) == ["stroma"]
    truth = [
        annotation.label
        for path in export_points(*audits, tmp_path / "truth", "ada")
        for annotation in read_annotations(path, points=True)
    ]
    answers = [row.answer for row in audits[1].answers()]
    assert sorted(map(str, truth)) == sorted(a for a in answers if a in ("tumor", "stroma"))


def test_all_mistakes_are_named_and_nothing_is_saved(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    path = export_points(*audits, tmp_path / "out")[0]

    def spoil(k: int, feature: dict[str, Any]) -> None:
        classify("Nerve" if k == 0 else "Tumor")(k, feature)
        if k == 1:
            feature["geometry"]["coordinates"][0] += (MOST_MOVED_UM + 0.1) / 0.25
        if k == 2:
            feature["id"] = "11111111-1111-4111-8111-111111111111"
        if k == 3:
            feature["geometry"]["coordinates"] = [None]
        if k == 4:
            feature["geometry"]["coordinates"][0] += (MOST_MOVED_UM - 0.1) / 0.25

    edit(path, spoil)
    with pytest.raises(UsageError) as caught:
        import_answers(*audits, [path], "ada")
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 points are wrong; none is saved:"
    assert "'Nerve' of point" in lines[1]
    assert "is none of unsure, unreadable, tumor, stroma" in lines[1]
    assert "has moved by 2.1 um" in lines[2]
    assert "no point of this audit" in lines[3]
    assert "no x and y" in lines[4]
    assert audits[1].answers() == []


def test_areas_are_passed_over_and_two_answers_are_refused(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    path = export_points(*audits, tmp_path / "out")[0]
    with pytest.raises(UsageError, match="no point has a class"):
        import_answers(*audits, [path], "ada")
    twice = edit(shutil.copy(path, tmp_path / "twice.geojson"), classify("stroma"))
    edit(path, classify("tumor"))
    with pytest.raises(UsageError, match="has two answers"):
        import_answers(*audits, [path, twice], "ada")
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    collection = json.loads(path.read_text())
    area = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path.write_text(json.dumps({**collection, "features": [area, *collection["features"]]}))
    assert import_answers(*audits, [path], "ada") == len(collection["features"])


@pytest.mark.parametrize("feature", [None, 1, {}, {"geometry": None}, {"geometry": {"type": 1}}])
def test_what_is_no_feature_is_named(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path, feature: Any
) -> None:
    (tmp_path / "x.geojson").write_text(json.dumps([feature]))
    with pytest.raises(UsageError, match="no GeoJSON feature"):
        import_answers(*audits, [tmp_path / "x.geojson"], "ada")


def test_files_that_may_hold_answers_are_not_replaced(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    export_points(*audits, tmp_path / "out")
    with pytest.raises(UsageError, match="may hold answers"):
        export_points(*audits, tmp_path / "out")
    with pytest.raises(UsageError, match="ben has given no point a class"):
        export_points(*audits, tmp_path / "new", "ben")


def test_the_command_writes_points_and_reads_answers(
    audits: tuple[ResultsFolder, Audits], tmp_path: Path
) -> None:
    results, out = str(audits[0].path), tmp_path / "out"
    assert CliRunner().invoke(command, [results, "--export", str(out)]).exit_code == 0
    path = edit(out / "a.geojson", classify("tumor"))
    done = CliRunner().invoke(command, [results, "--answers", str(path), "--reader", "ada"])
    count = len(json.loads(path.read_text())["features"])
    assert (done.exit_code, f"ada: {count} of 20" in done.output) == (0, True), done.output
