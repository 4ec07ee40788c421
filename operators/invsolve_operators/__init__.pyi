from .blurs.blur import GaussianBlur as GaussianBlur  # gaussian-blur: Gaussian blur by FFT, circular unless said
from .blurs.blur import KernelBlur as KernelBlur  # kernel-blur: blur by FFT with any kernel, also one per image, circular unless said
from .blurs.blur import MotionBlur as MotionBlur  # motion-blur: motion blur by FFT: a line or a random path, circular unless said
from .blurs.kinds import AnisotropicGaussianBlur as AnisotropicGaussianBlur  # anisotropic-gaussian-blur: Gaussian blur of two widths at an angle, circular unless said
from .blurs.kinds import CameraShakeBlur as CameraShakeBlur  # camera-shake-blur: blur by the random path of a hand-held camera, circular unless said
from .blurs.kinds import DefocusBlur as DefocusBlur  # defocus-blur: blur of a lens out of focus, circular unless said
from .blurs.kinds import FileBlur as FileBlur  # file-blur: blur with a kernel from a file, circular unless said
from .blurs.kinds import PaddedFileBlur as PaddedFileBlur  # padded-file-blur: kernel from a file with valid, reflect, symmetric or zero boundary
from .blurs.padded import PaddedBlur as PaddedBlur  # padded-blur: any kernel with reflect, symmetric, zero or valid boundary
from .blurs.separable import Separable as Separable  # separable: two small matrices, on the rows and the columns of every channel
from .blurs.separable import SeparableBlur as SeparableBlur  # separable-blur: blur by two 1-D kernels with zero, reflect, symmetric or circular boundary
from .blurs.separable import SeparableGaussianBlur as SeparableGaussianBlur  # separable-gaussian-blur: Gaussian blur with zero, reflect, symmetric or circular boundary
from .blurs.tiled import TiledBlur as TiledBlur  # tiled-blur: blur that changes over the image: a grid of kernels, interpolated
from .colour.grey import Grey as Grey  # grey: colourisation: weighted mean of the channels
from .colour.mosaic import Mosaic as Mosaic  # mosaic: demosaicing: the image of a sensor behind a Bayer filter
from .fewer.decimate import BlurDecimate as BlurDecimate  # blur-decimate: super-resolution: circular blur, then the upper-left pixel of each block
from .fewer.downsample import Bicubic as Bicubic  # bicubic: super-resolution: antialiased bicubic downsampling
from .fewer.downsample import BlockMean as BlockMean  # block-mean: super-resolution: mean of factor x factor blocks
from .fewer.presets import DDRMAnisotropicBlur as DDRMAnisotropicBlur  # ddrm-anisotropic-blur-9: DDRM: anisotropic blur, 8 of 9 taps, zeros outside
from .fewer.presets import DDRMGaussianBlur as DDRMGaussianBlur  # ddrm-gaussian-blur-5: DDRM: Gaussian blur of 10 pixels on 4 of 5 taps, zeros outside
from .fewer.presets import DDRMSuperResolution as DDRMSuperResolution  # ddrm-super-resolution-4: DDRM and DDNM: means of 4 x 4
from .fewer.presets import DDRMUniformBlur as DDRMUniformBlur  # ddrm-uniform-blur-9: DDRM: uniform blur, 8 of 9 taps, zeros outside
from .fewer.presets import DiffPIRGaussianBlur as DiffPIRGaussianBlur  # diffpir-gaussian-blur-61: DiffPIR: circular Gaussian blur of 3 to 9 pixels
from .fewer.presets import DiffPIRMotionBlur as DiffPIRMotionBlur  # diffpir-motion-blur-61: DiffPIR: circular random motion in 61 x 61
from .fewer.presets import DPSGaussianBlur as DPSGaussianBlur  # dps-gaussian-blur-61: DPS: Gaussian blur of 3 pixels, reflected
from .fewer.presets import DPSMotionBlur as DPSMotionBlur  # dps-motion-blur-61: DPS: random motion in 61 x 61, reflected
from .fewer.presets import DPSSuperResolution as DPSSuperResolution  # dps-super-resolution-4: DPS: antialiased bicubic by 4
from .fewer.presets import REDDiffGaussianBlur as REDDiffGaussianBlur  # red-diff-gaussian-blur-5: RED-diff: Gaussian blur of 25 pixels on 4 of 5 taps
from .fewer.resize import Resize as Resize  # resize: super-resolution: antialiased bicubic to any smaller size
from .fewer.slices import ThroughPlane as ThroughPlane  # through-plane: a volume's slices made fewer and thicker
from .identity import Identity as Identity  # identity: denoising: y = x + n
from .masks.drawn import RandomBoxMask as RandomBoxMask  # random-box-mask: a box missing at a random place, also one per image
from .masks.drawn import RandomRangeMask as RandomRangeMask  # random-range-mask: random pixels, the fraction removed drawn from a range
from .masks.drawn import StrokeMask as StrokeMask  # stroke-mask: free-form strokes missing, narrow or wide, as LaMa draws them
from .masks.film import FilmMask as FilmMask  # film-mask: scratches, hairs and dust missing, as on old film
from .masks.film import TextMask as TextMask  # text-mask: lines of text missing
from .masks.gain import Gain as Gain  # gain: light by pixel: soft masks, vignetting, flat fields, also one per image
from .masks.mask import BoxMask as BoxMask  # box-mask: a rectangle missing
from .masks.mask import Mask as Mask  # mask: random pixels kept, or any 0/1 mask, also one per image
from .masks.patterns import BayerMask as BayerMask  # bayer-mask: one colour known at every pixel, in a colour image
from .masks.patterns import ExpandMask as ExpandMask  # expand-mask: outpainting: only the middle known
from .masks.patterns import FileMask as FileMask  # file-mask: a mask from an image or a tensor file
from .masks.patterns import GridMask as GridMask  # grid-mask: one pixel of every block known
from .masks.patterns import HalfMask as HalfMask  # half-mask: one half known
from .masks.patterns import LineMask as LineMask  # line-mask: every second (third, ...) line known
from .masks.presets import DAPSRandomMask as DAPSRandomMask  # daps-random-mask-70: DAPS: 70 % of the pixels removed
from .masks.presets import DPSBoxMask as DPSBoxMask  # dps-box-mask: DPS: a box of half the side missing at a random place
from .masks.presets import DPSRandomMask as DPSRandomMask  # dps-random-mask: DPS: 30 to 70 % of the pixels removed
from .masks.presets import RePaintNarrowMask as RePaintNarrowMask  # repaint-narrow-mask: RePaint and CoPaint: LaMa's thin strokes
from .masks.presets import RePaintWideMask as RePaintWideMask  # repaint-wide-mask: RePaint and CoPaint: LaMa's thick strokes
from .mri.cartesian import MRI as MRI  # mri: single-coil Cartesian MRI: some of k-space, of real or complex images
from .mri.sense import SENSE as SENSE  # sense: multi-coil Cartesian MRI with sensitivity maps
from .nonlinear.camera import HDR as HDR  # hdr: high dynamic range: the dark and the bright end clipped
from .nonlinear.camera import Quantise as Quantise  # quantise: few bits, with a straight-through gradient
from .nonlinear.camera import SaturatingBlur as SaturatingBlur  # saturating-blur: blur whose highlights clip, circular unless said
from .nonlinear.jpeg import JPEG as JPEG  # jpeg: JPEG compression at a quality, with a straight-through gradient
from .nonlinear.phase import PhaseRetrieval as PhaseRetrieval  # phase-retrieval: the modulus of the Fourier transform of the padded image
from .transforms.blocks import BlockOrthogonal as BlockOrthogonal  # block-orthogonal: compressed sensing: some rows of one orthogonal matrix for every block
from .transforms.hadamard import WalshHadamard as WalshHadamard  # walsh-hadamard: compressed sensing: some Walsh-Hadamard coefficients of every channel

def invsolve_register(registry: object) -> None: ...
