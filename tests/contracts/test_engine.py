"""Each engine passes the contract."""

import pytest

from noctile.testing.engine import EngineContract
from noctile.workflows.engines.dask import DaskEngine
from noctile.workflows.engines.serial import SerialEngine


class TestSerialEngine(EngineContract):
    @pytest.fixture
    def engine(self):
        return SerialEngine()


class TestDaskEngine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        engine = DaskEngine(2, env={"OMP_NUM_THREADS": "1"})
        yield engine
        engine.close()
