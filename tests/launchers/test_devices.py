"""Which GPUs an engine sees, by the variables of each vendor."""

import pytest

from launchers.devices import Accelerator, visible


@pytest.mark.parametrize("accelerator", ["cuda", "rocm", "ascend", "xpu"])
def test_without_a_word_on_gpus_the_engine_decides(accelerator: Accelerator) -> None:
    assert visible(None, accelerator) == {}


@pytest.mark.parametrize(
    ("accelerator", "gpus", "environment"),
    [
        ("cuda", ("0", "2"), {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,2"}),
        ("cuda", ("GPU-a",), {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-a"}),
        ("cuda", (), {"CUDA_VISIBLE_DEVICES": ""}),
        # Both the same, so that vLLM takes them whatever is inherited; HIP takes an empty one for an unset one.
        ("rocm", ("1", "2"), {"HIP_VISIBLE_DEVICES": "1,2", "CUDA_VISIBLE_DEVICES": "1,2"}),
        ("rocm", (), {"HIP_VISIBLE_DEVICES": "-1", "CUDA_VISIBLE_DEVICES": "-1"}),
        ("ascend", ("4",), {"ASCEND_RT_VISIBLE_DEVICES": "4"}),
        ("ascend", (), {"ASCEND_RT_VISIBLE_DEVICES": ""}),
        # An empty mask is no mask.
        ("xpu", ("0", "1"), {"ZE_AFFINITY_MASK": "0,1"}),
        ("xpu", (), {"ONEAPI_DEVICE_SELECTOR": "!*:gpu"}),
    ],
)
def test_each_vendor_has_its_variables(
    accelerator: Accelerator, gpus: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert visible(gpus, accelerator) == environment


def test_cuda_is_meant_where_no_vendor_is_named() -> None:
    assert visible(("0",)) == visible(("0",), "cuda")
