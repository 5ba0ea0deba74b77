"""Encoders start from the weights that the settings name."""

import pytest
import torch

from noctile.pipeline.errors import UsageError
from noctile.pipeline.training import encoder as encoders
from noctile.pipeline.training.encoder import LITE0, fill_encoder
from noctile.pipeline.training.network import new_network
from noctile.pipeline.training.settings import TrainSettings


class TestEncoderWeights:
    def test_lite0_starts_from_imagenet_without_a_connection(self):
        network = new_network(TrainSettings(encoder=LITE0), 2)
        before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
        assert "ImageNet" in fill_encoder(network, LITE0, "imagenet")
        after = network.encoder.state_dict()
        assert all((after[k] != before[k]).any() for k in after if k.endswith("conv_stem.weight"))
        rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert all(torch.isfinite(f).all() for f in network.encoder(rgb))

    def test_without_a_connection_the_message_names_the_alternatives(self, monkeypatch):
        def offline(*_, **__):
            raise OSError("Name or service not known")

        monkeypatch.setattr(encoders.smp.encoders, "get_encoder", offline)
        with pytest.raises(UsageError, match=r"downloaded.*--encoder-weights PATH or none"):
            fill_encoder(new_network(TrainSettings(), 2), "resnet34", "imagenet")

    def test_a_file_fills_the_encoder_to_the_last_tensor(self, tmp_path):
        one, other = (new_network(TrainSettings(encoder="resnet18"), 2) for _ in range(2))
        torch.save(one.state_dict(), tmp_path / "model.pt")
        assert fill_encoder(other, "resnet18", str(tmp_path / "model.pt")) == "model.pt"
        for a, b in zip(
            one.encoder.state_dict().values(), other.encoder.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("content", [b"no weights", b""])
    def test_a_file_that_holds_no_weights_is_named(self, tmp_path, content):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"w\.pt"):
            fill_encoder(
                new_network(TrainSettings(encoder="resnet18"), 2),
                "resnet18",
                str(tmp_path / "w.pt"),
            )

    def test_weights_of_another_encoder_do_not_fit(self, tmp_path):
        torch.save(
            new_network(TrainSettings(encoder="resnet18"), 2).state_dict(), tmp_path / "w.pt"
        )
        with pytest.raises(UsageError, match="do not fit"):
            fill_encoder(new_network(TrainSettings(), 2), "resnet34", str(tmp_path / "w.pt"))
