import json

from noctile.pipeline.spatial.measures import SPATIAL_VERSION, SpatialMeasures

AREAS = [4.0, 2.0, 1.5, 0.5, 2.5, 0.5, None]
MEASURES = SpatialMeasures(
    SPATIAL_VERSION,
    (8.0, 8.1),
    *AREAS,
    2.0,
    (1, 0, 2, 0, 0, 0, 0, 0, 0),
    *(0.5, 0.9, 0.6, 0.43, "stroma_low", 0.7, "stroma_high", (500.0, 750.0), 0.17, 0.25, None),
    {"necrosis_fraction": "the model has no class necrosis"},
)


def test_measures_survive_a_file():
    assert SpatialMeasures.from_json(json.loads(json.dumps(MEASURES.to_json()))) == MEASURES
