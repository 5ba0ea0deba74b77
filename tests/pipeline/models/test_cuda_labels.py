"""The labels kernel: it compiles on any machine, and agrees with the steps of torch."""

import numpy as np
import pytest
import torch

from noctile.pipeline.models.cuda_labels import compile_kernels, labels_on_gpu
from noctile.pipeline.models.pixel_labels import labels_from_probabilities

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("channels", [1, 2, 21, 255])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_it_compiles_without_a_gpu(channels, capability):
    pytest.importorskip("cuda.bindings")
    code = compile_kernels(channels, [channels - 1], capability)
    assert code.startswith(b"\x7fELF")
    assert b"half" in code
    assert b"single" in code


def test_an_error_of_the_compiler_is_raised():
    pytest.importorskip("cuda.bindings")
    with pytest.raises(RuntimeError, match="INVALID_OPTION"):
        compile_kernels(2, [0], (1, 0))


@on_a_gpu
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("channels", "tumor"), [(2, [1]), (21, [0, 5]), (40, [3, 33, 39]), (255, [])]
)
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_its_labels_are_those_of_the_probabilities(kind, channels, tumor, memory):
    torch.manual_seed(1)
    device = torch.device("cuda")
    logits = (torch.randn(3, channels, 70, 65, device=device) * 5).to(kind).to(memory_format=memory)
    part = logits[:, :, 3:64, 1:50]
    found = labels_on_gpu(channels, tumor, device)(part).cpu().numpy()
    expected = labels_from_probabilities(
        torch.softmax(part, dim=1, dtype=torch.float32).cpu().numpy(), tumor
    )
    label = part.argmax(dim=1).cpu().numpy()
    best = np.take_along_axis(part.cpu().numpy(), label[:, None], axis=1)
    chosen = np.take_along_axis(part.cpu().numpy(), found[0][:, None].astype(np.int64), axis=1)
    assert np.array_equal(chosen, best)  # torch may choose any of equal channels
    for computed, value in ((found[1], expected.tumor), (found[2], expected.confidence)):
        assert np.abs(computed.astype(int) - value.astype(int)).max() <= 1


@on_a_gpu
def test_the_first_of_equal_channels_is_taken_and_nan_has_no_confidence():
    logits = torch.zeros(1, 5, 1, 6, device="cuda", dtype=torch.float16)
    logits[0, 2, 0, 1] = logits[0, 4, 0, 1] = 3
    logits[0, 1, 0, 2] = float("nan")
    logits[0, 0, 0, 3] = float("inf")
    logits[0, 3, 0, 4] = float("-inf")
    logits[0, :, 0, 5] = float("-inf")
    label, _, confidence = (
        labels_on_gpu(5, [0], torch.device("cuda"))(logits)[:, 0, 0].cpu().tolist()
    )
    assert label[:2] == [0, 2]
    assert confidence == [51, 119, 0, 0, 64, 0]
