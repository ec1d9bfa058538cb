"""How a model's GPUs are shared out: the tensor-parallel size that uses all of them."""

from launchers.base import Refusal


def tensor_size(gpus: tuple[str, ...] | None, given: int | None, others: int) -> int | None:
    """The tensor-parallel size that uses exactly `gpus`, None where that is an engine's own default of 1.

    `given` is what the options say, `others` the product of the other parallel sizes. Where the file names no GPUs the
    engine sees all there are, and `given` rules. Raises Refusal where the sizes and the number of GPUs do not fit.
    """
    if not gpus:
        return given
    if (given or 1) * others > len(gpus) or len(gpus) % others or (given and given * others != len(gpus)):
        raise Refusal(
            "options.tensor_parallel_size",
            f"the parallel sizes need {(given or 1) * others} GPUs and the model has {len(gpus)}",
            "give the model as many GPUs as tensor x pipeline x data parallel size",
        )
    return given or (len(gpus) // others if len(gpus) > others else None)
