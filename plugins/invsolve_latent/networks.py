"""Small convolutional autoencoders, with a Gaussian code (KL) or a code from a book (VQ).

E(x) = (encoder(x) - shift) / scale and D(z) = decoder(shift + scale z), with the mean and the standard deviation of every channel of the
codes as they were met in training: a code has mean 0 and variance 1 whatever the network's own scale is.
"""

from __future__ import annotations

import torch
from invsolve_weights.networks import NETWORKS
from torch import Tensor, nn
from torch.nn import functional

MEMORY = 0.99  # of running means, a step
IDLE = 0.02  # words that are used less often than so many times a batch begin anew


class Block(nn.Module):
    """x + conv(silu(conv(silu(x)))), the last convolution 0 at first; no normalisation, so that no pixel depends on far ones.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        return x + self.second(functional.silu(self.first(functional.silu(x))))


class Autoencoder(nn.Module):
    """Images (B, channels, H, W) in [0, 1], sides multiples of `factor`, to codes (B, codes, H / factor, W / factor) and back.

    Every halving is a pixel-unshuffle and a convolution, every doubling a convolution and a pixel-shuffle.

    Args:
        channels: of the images.
        factor: f, how many pixels a side of the image has for one of the code: 2, 4 or 8.
        codes: channels of a code.
        width: channels of the first level; twice as many below.
        blocks: residual blocks a level, in the encoder and the decoder each.
        book: number of words of a VQ code, 0 for a KL code.

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, section 3.1 and appendix G;
        the book: Neural Discrete Representation Learning (van den Oord et al., 2017), arXiv:1711.00937, appendix A.1 (running means).
        Deviations: no attention, no normalisation, a hundredth of the weights; shift and scale of every channel by running means, theirs
        one scale from the first batch; words that nothing is near to begin anew at a code of the batch.
    """

    shift: Tensor
    scale: Tensor
    words: Tensor
    uses: Tensor

    def __init__(self, channels: int = 3, factor: int = 4, codes: int = 3, width: int = 48, blocks: int = 2, book: int = 0) -> None:
        super().__init__()
        if factor not in (2, 4, 8) or min(channels, codes, width, blocks) < 1 or book < 0:
            raise ValueError(f"factor must be 2, 4 or 8, the others positive; given {(channels, factor, codes, width, blocks, book)}")
        self.channels, self.factor, self.codes, self.book = channels, factor, codes, book
        widths = [width, *[2 * width] * (factor.bit_length() - 2)]
        down: list[nn.Module] = []
        before = channels
        for each in widths:
            down += [nn.PixelUnshuffle(2), nn.Conv2d(4 * before, each, 3, padding=1), *(Block(each) for _ in range(blocks))]
            before = each
        self.encoder = nn.Sequential(*down, nn.Conv2d(before, codes if book else 2 * codes, 3, padding=1))
        up: list[nn.Module] = [nn.Conv2d(codes, before, 3, padding=1)]
        for each, after in zip(widths[::-1], [*widths[-2::-1], max(width // 3, channels)], strict=True):
            up += [*(Block(each) for _ in range(blocks)), nn.Conv2d(each, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
            before = after
        self.decoder = nn.Sequential(*up, Block(before), nn.Conv2d(before, channels, 3, padding=1))
        for name, value in (("shift", torch.zeros(codes, 1, 1)), ("scale", torch.ones(codes, 1, 1))):
            self.register_buffer(name, value)
        if book:
            self.register_buffer("words", torch.zeros(book, codes))
            self.register_buffer("uses", torch.zeros(book))

    def encode(self, x: Tensor) -> Tensor:
        """E(x): the mean of a KL code; of a VQ code what is then rounded to a word."""
        return (self._raw(x)[0] - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """D(z); a VQ code is rounded first, with the gradient of no rounding."""
        raw = self.shift + self.scale * z
        return self._image(self._rounded(raw) if self.book else raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(D(E(x)), penalty (B,)): the KL divergence from N(0, 1) of a code, drawn in training, for each number of the image, or the
        mean square of what rounding changes."""
        raw, logs = self._raw(x)
        raw = raw.float()
        if self.training:
            self._meet(raw.detach())
        if self.book:
            near = self._rounded(raw)
            return self._image(near), (near.detach() - raw).square().flatten(1).mean(1)
        spread = logs.float().clamp(-30, 20)
        penalty = 0.5 * (raw.square() + spread.exp() - 1 - spread).flatten(1).sum(1) / x[0].numel()
        drawn = raw + (0.5 * spread).exp() * torch.randn_like(raw) if self.training else raw
        return self._image(drawn), penalty

    def _raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's code and its log variance (nothing of a VQ code), in its own scale."""
        made = self.encoder(4 * (x - 0.5))
        return made[:, : self.codes], made[:, self.codes :]

    def _image(self, raw: Tensor) -> Tensor:
        return 0.5 + self.decoder(raw) / 4

    def _rounded(self, raw: Tensor) -> Tensor:
        """The nearest word at every place; its gradient is the code's own."""
        flat = raw.movedim(1, -1)
        with torch.no_grad(), torch.autocast(raw.device.type, enabled=False):
            near = self.words.to(raw.dtype)[self._nearest(flat.reshape(-1, self.codes))].reshape(flat.shape).movedim(-1, 1)
        return raw + (near - raw).detach()

    def _nearest(self, rows: Tensor) -> Tensor:
        words = self.words.to(rows.dtype)
        return (words.square().sum(1) - 2 * rows @ words.T).argmin(1)

    @torch.no_grad()
    def _meet(self, raw: Tensor) -> None:
        """Take a batch's codes into the running means, and into those of the words they are nearest to."""
        self.shift.lerp_(raw.mean((0, 2, 3)).reshape(-1, 1, 1), 1 - MEMORY)
        self.scale.lerp_(raw.transpose(0, 1).flatten(1).std(1).clamp_min(1e-4).reshape(-1, 1, 1), 1 - MEMORY)
        if not self.book:
            return
        with torch.autocast(raw.device.type, enabled=False):
            rows = raw.movedim(1, -1).reshape(-1, self.codes)
            idle = self.uses < IDLE
            self.words[idle] = rows[torch.randint(len(rows), (int(idle.sum()),), device=rows.device)]
            self.uses[idle] = 1.0
            near = self._nearest(rows)
            counts = torch.bincount(near, minlength=self.book).to(rows.dtype)
            sums = torch.zeros_like(self.words).index_add_(0, near, rows)
            share = (1 - MEMORY) * counts / (MEMORY * self.uses + (1 - MEMORY) * counts).clamp_min(1e-8)
            self.words.lerp_(torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], self.words), share[:, None])
            self.uses.lerp_(counts, 1 - MEMORY)


NETWORKS.setdefault("autoencoder", Autoencoder)
