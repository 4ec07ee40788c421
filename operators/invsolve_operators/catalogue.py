"""What this package offers: (registry name, class, module, summary), one line an operator.

A new operator is one file, one line here and one line in `__init__.pyi` (what type checkers and editors read).
"""

ENTRIES: tuple[tuple[str, str, str, str], ...] = (
    ("identity", "Identity", "identity", "denoising: y = x + n"),
    # Masks
    ("mask", "Mask", "masks.mask", "random pixels kept, or any 0/1 mask, also one per image"),
    ("box-mask", "BoxMask", "masks.mask", "a rectangle missing"),
    ("expand-mask", "ExpandMask", "masks.patterns", "outpainting: only the middle known"),
    ("half-mask", "HalfMask", "masks.patterns", "one half known"),
    ("line-mask", "LineMask", "masks.patterns", "every second (third, ...) line known"),
    ("grid-mask", "GridMask", "masks.patterns", "one pixel of every block known"),
    ("file-mask", "FileMask", "masks.patterns", "a mask from an image or a tensor file"),
    ("bayer-mask", "BayerMask", "masks.patterns", "one colour known at every pixel, in a colour image"),
    ("random-box-mask", "RandomBoxMask", "masks.drawn", "a box missing at a random place, also one per image"),
    ("random-range-mask", "RandomRangeMask", "masks.drawn", "random pixels, the fraction removed drawn from a range"),
    ("stroke-mask", "StrokeMask", "masks.drawn", "free-form strokes missing, narrow or wide, as LaMa draws them"),
    ("film-mask", "FilmMask", "masks.film", "scratches, hairs and dust missing, as on old film"),
    ("text-mask", "TextMask", "masks.film", "lines of text missing"),
    # Blurs
    ("gaussian-blur", "GaussianBlur", "blurs.blur", "circular Gaussian blur by FFT"),
    ("motion-blur", "MotionBlur", "blurs.blur", "circular motion blur by FFT: a line or a random path"),
    ("kernel-blur", "KernelBlur", "blurs.blur", "circular blur by FFT with any kernel, also one per image"),
    ("separable-blur", "SeparableBlur", "blurs.separable", "blur by two 1-D kernels with zero, reflect, symmetric or circular boundary"),
    (
        "separable-gaussian-blur",
        "SeparableGaussianBlur",
        "separable",
        "Gaussian blur with zero, reflect, symmetric or circular boundary",
    ),
    ("anisotropic-gaussian-blur", "AnisotropicGaussianBlur", "blurs.kinds", "circular Gaussian blur of two widths at an angle"),
    ("defocus-blur", "DefocusBlur", "blurs.kinds", "circular blur of a lens out of focus"),
    ("camera-shake-blur", "CameraShakeBlur", "blurs.kinds", "circular blur by the random path of a hand-held camera"),
    ("file-blur", "FileBlur", "blurs.kinds", "circular blur with a kernel from a file"),
    ("padded-blur", "PaddedBlur", "blurs.padded", "any kernel with reflect, symmetric, zero or valid boundary"),
    # Fewer pixels
    ("block-mean", "BlockMean", "fewer.downsample", "super-resolution: mean of factor x factor blocks"),
    ("bicubic", "Bicubic", "fewer.downsample", "super-resolution: antialiased bicubic downsampling"),
    ("blur-decimate", "BlurDecimate", "fewer.decimate", "super-resolution: circular blur, then the upper-left pixel of each block"),
    ("through-plane", "ThroughPlane", "fewer.slices", "a volume's slices made fewer and thicker"),
    # Colour
    ("mosaic", "Mosaic", "colour.mosaic", "demosaicing: the image of a sensor behind a Bayer filter"),
    ("grey", "Grey", "colour.grey", "colourisation: weighted mean of the channels"),
    # Transforms: compressed sensing, matrices
    ("separable", "Separable", "blurs.separable", "two small matrices, on the rows and the columns of every channel"),
    ("walsh-hadamard", "WalshHadamard", "transforms.hadamard", "compressed sensing: some Walsh-Hadamard coefficients of every channel"),
    ("block-orthogonal", "BlockOrthogonal", "transforms.blocks", "compressed sensing: some rows of one orthogonal matrix for every block"),
    # Magnetic resonance
    ("mri", "MRI", "mri.cartesian", "single-coil Cartesian MRI: some of k-space, of real or complex images"),
    ("sense", "SENSE", "mri.sense", "multi-coil Cartesian MRI with sensitivity maps"),
    # Nonlinear
    ("phase-retrieval", "PhaseRetrieval", "nonlinear.phase", "the modulus of the Fourier transform of the padded image"),
    ("hdr", "HDR", "nonlinear.camera", "high dynamic range: the dark and the bright end clipped"),
    ("quantise", "Quantise", "nonlinear.camera", "few bits, with a straight-through gradient"),
    ("saturating-blur", "SaturatingBlur", "nonlinear.camera", "circular blur whose highlights clip"),
    ("jpeg", "JPEG", "nonlinear.jpeg", "JPEG compression at a quality, with a straight-through gradient"),
    # Presets of papers
    ("dps-gaussian-blur-61", "DPSGaussianBlur", "fewer.presets", "DPS: Gaussian blur of 3 pixels, reflected"),
    ("dps-motion-blur-61", "DPSMotionBlur", "fewer.presets", "DPS: random motion in 61 x 61, reflected"),
    ("dps-super-resolution-4", "DPSSuperResolution", "fewer.presets", "DPS: antialiased bicubic by 4"),
    ("dps-box-mask", "DPSBoxMask", "masks.presets", "DPS: a box of half the side missing at a random place"),
    ("dps-random-mask", "DPSRandomMask", "masks.presets", "DPS: 30 to 70 % of the pixels removed"),
    ("daps-random-mask-70", "DAPSRandomMask", "masks.presets", "DAPS: 70 % of the pixels removed"),
    ("diffpir-gaussian-blur-61", "DiffPIRGaussianBlur", "fewer.presets", "DiffPIR: circular Gaussian blur of 3 to 9 pixels"),
    ("diffpir-motion-blur-61", "DiffPIRMotionBlur", "fewer.presets", "DiffPIR: circular random motion in 61 x 61"),
    ("ddrm-uniform-blur-9", "DDRMUniformBlur", "fewer.presets", "DDRM: uniform blur, 8 of 9 taps, zeros outside"),
    ("ddrm-gaussian-blur-5", "DDRMGaussianBlur", "fewer.presets", "DDRM: Gaussian blur of 10 pixels on 4 of 5 taps, zeros outside"),
    ("ddrm-anisotropic-blur-9", "DDRMAnisotropicBlur", "fewer.presets", "DDRM: anisotropic blur, 8 of 9 taps, zeros outside"),
    ("ddrm-super-resolution-4", "DDRMSuperResolution", "fewer.presets", "DDRM and DDNM: means of 4 x 4"),
    ("red-diff-gaussian-blur-5", "REDDiffGaussianBlur", "fewer.presets", "RED-diff: Gaussian blur of 25 pixels on 4 of 5 taps"),
    ("repaint-wide-mask", "RePaintWideMask", "masks.presets", "RePaint and CoPaint: LaMa's thick strokes"),
    ("repaint-narrow-mask", "RePaintNarrowMask", "masks.presets", "RePaint and CoPaint: LaMa's thin strokes"),
)
