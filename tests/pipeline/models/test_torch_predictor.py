"""Networks that torch computes: probabilities, bits and batches."""

import tempfile

import numpy as np
import pytest
import torch
from small_networks import SIDE, fields, network, plainly, tiles_of

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models import torch_predictor
from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.torch_predictor import TorchPredictor, largest_batch

pytestmark = pytest.mark.usefixtures("one_thread")


class TestOutput:
    @pytest.mark.parametrize("mean_std", [{}, {"mean": (0.7, 0.5, 0.6), "std": (0.2, 0.3, 0.1)}])
    def test_probabilities_are_those_of_the_network_on_normalised_rgb(self, mean_std):
        net, tiles = network(), tiles_of()
        expected = plainly(net, tiles, **mean_std)
        found = TorchPredictor(make_card(fields(**mean_std), "0" * 64), net)(tiles)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)

    def test_a_single_channel_is_the_logit_of_the_first_of_two_classes(self):
        net, tiles = network(classes=1), tiles_of()
        with torch.no_grad():
            pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255 - torch.tensor(
                (0.485, 0.456, 0.406)
            ).view(3, 1, 1)
            expected = torch.sigmoid(
                net(pixels / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1))
            )[:, 0]
        found = TorchPredictor(make_card(fields(classes=2), "0" * 64), net)(tiles)
        np.testing.assert_allclose(found[:, 0].numpy(), expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(found[:, 1].numpy(), 1 - expected.numpy(), atol=1e-4)

    def test_a_network_in_training_mode_is_put_in_evaluation_mode(self):
        net, tiles = network(), tiles_of()
        expected = plainly(net, tiles)
        found = TorchPredictor(make_card(fields(), "0" * 64), net.train())(tiles)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)

    def test_bits_do_not_depend_on_batch_size_nor_on_the_number_of_threads(self):
        """At 96 px the convolutions of a ResNet-34 depend on both without the one-core passes."""
        net, tiles = network(encoder="resnet34", classes=21), tiles_of(4, 96)
        card = make_card(fields(21, tile_px=96), "0" * 64)
        one, three = TorchPredictor(card, net, threads=1), TorchPredictor(card, net, threads=3)
        reference = torch.cat([one(tile[None]) for tile in tiles])
        before = torch.get_num_threads()
        try:
            for callers in (1, 2, 4):
                torch.set_num_threads(callers)
                assert torch.equal(one(tiles), reference)
                assert torch.equal(three(tiles), reference)
        finally:
            torch.set_num_threads(before)

    def test_the_result_may_be_changed_in_place(self, saved):
        p = load_predictor(saved, "cpu")(tiles_of(1))
        p *= 2
        assert p.sum().item() == pytest.approx(2 * SIDE * SIDE, rel=1e-4)


@pytest.mark.parametrize(
    ("tile_mb", "free_mb", "batch"),
    [(100, 80_000, 16), (100, 3_200, 16), (100, 3_199, 8), (100, 250, 1), (100, 0, 1)],
)
def test_a_batch_takes_at_most_half_of_the_free_memory(tile_mb, free_mb, batch):
    assert largest_batch(tile_mb, free_mb) == batch


def test_compiled_code_is_not_kept_where_another_user_can_put_some(monkeypatch, tmp_path):
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("NOCTILE_CACHE", str(tmp_path))
    torch_predictor._compile_in_private()
    assert cache_dir() == str(tmp_path / "torch")
    assert not cache_dir().startswith(f"{tempfile.gettempdir()}/torchinductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    (tmp_path / "torch").chmod(0o777)
    with pytest.raises(ModelError, match="NOCTILE_CACHE"):
        torch_predictor._compile_in_private()
