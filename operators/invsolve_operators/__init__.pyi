from typing import Any

from invsolve_operators.blocks import BlockOrthogonal as BlockOrthogonal
from invsolve_operators.blur import GaussianBlur as GaussianBlur
from invsolve_operators.blur import KernelBlur as KernelBlur
from invsolve_operators.blur import MotionBlur as MotionBlur
from invsolve_operators.camera import HDR as HDR
from invsolve_operators.camera import Quantise as Quantise
from invsolve_operators.camera import SaturatingBlur as SaturatingBlur
from invsolve_operators.colour import Grey as Grey
from invsolve_operators.decimate import BlurDecimate as BlurDecimate
from invsolve_operators.downsample import Bicubic as Bicubic
from invsolve_operators.downsample import BlockMean as BlockMean
from invsolve_operators.drawn_masks import RandomBoxMask as RandomBoxMask
from invsolve_operators.drawn_masks import RandomRangeMask as RandomRangeMask
from invsolve_operators.drawn_masks import StrokeMask as StrokeMask
from invsolve_operators.film import FilmMask as FilmMask
from invsolve_operators.film import TextMask as TextMask
from invsolve_operators.hadamard import WalshHadamard as WalshHadamard
from invsolve_operators.identity import Identity as Identity
from invsolve_operators.jpeg import JPEG as JPEG
from invsolve_operators.mask import BoxMask as BoxMask
from invsolve_operators.mask import Mask as Mask
from invsolve_operators.masks import BayerMask as BayerMask
from invsolve_operators.masks import ExpandMask as ExpandMask
from invsolve_operators.masks import FileMask as FileMask
from invsolve_operators.masks import GridMask as GridMask
from invsolve_operators.masks import HalfMask as HalfMask
from invsolve_operators.masks import LineMask as LineMask
from invsolve_operators.mosaic import Mosaic as Mosaic
from invsolve_operators.mri import MRI as MRI
from invsolve_operators.phase import PhaseRetrieval as PhaseRetrieval
from invsolve_operators.sense import SENSE as SENSE
from invsolve_operators.separable import Separable as Separable
from invsolve_operators.separable import SeparableBlur as SeparableBlur
from invsolve_operators.separable import SeparableGaussianBlur as SeparableGaussianBlur

def invsolve_register(registry: Any) -> None: ...
