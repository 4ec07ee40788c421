"""The metric of this plug-in: how far off a pixel is on average."""

from torch import Tensor

from invsolve.bench import Metric


class MeanAbsoluteError(Metric):
    """MAE = mean |x_hat - x| over pixels and channels, per image, in units of images in [0, 1]; lower is better.

    A metric of two images writes `compute`; one that needs the measurement or the samples writes `measure(case)` instead.
    """

    label, digits, higher = "MAE", 4, False
    settings = "mean over pixels and channels, after clipping to [0, 1]"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""
        return (x_hat - x).abs().flatten(1).mean(1)
