from .blocks import BlockOrthogonal as BlockOrthogonal
from .hadamard import WalshHadamard as WalshHadamard
