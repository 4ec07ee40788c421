"""What this package offers: (registry name, class, module, summary), one line an operator.

A new operator is one file, one line here and one line in `__init__.pyi` (what type checkers and editors read).
"""

ENTRIES: tuple[tuple[str, str, str, str], ...] = (
    ("identity", "Identity", "identity", "denoising: y = x + n"),
    # Masks
    ("mask", "Mask", "mask", "random pixels kept, or any 0/1 mask, also one per image"),
    ("box-mask", "BoxMask", "mask", "a rectangle missing"),
    ("expand-mask", "ExpandMask", "masks", "outpainting: only the middle known"),
    ("half-mask", "HalfMask", "masks", "one half known"),
    ("line-mask", "LineMask", "masks", "every second (third, ...) line known"),
    ("grid-mask", "GridMask", "masks", "one pixel of every block known"),
    ("file-mask", "FileMask", "masks", "a mask from an image or a tensor file"),
    ("bayer-mask", "BayerMask", "masks", "one colour known at every pixel, in a colour image"),
    ("random-box-mask", "RandomBoxMask", "drawn_masks", "a box missing at a random place, also one per image"),
    ("random-range-mask", "RandomRangeMask", "drawn_masks", "random pixels, the fraction removed drawn from a range"),
    ("stroke-mask", "StrokeMask", "drawn_masks", "free-form strokes missing, narrow or wide, as LaMa draws them"),
    ("film-mask", "FilmMask", "film", "scratches, hairs and dust missing, as on old film"),
    ("text-mask", "TextMask", "film", "lines of text missing"),
    # Blurs
    ("gaussian-blur", "GaussianBlur", "blur", "circular Gaussian blur by FFT"),
    ("motion-blur", "MotionBlur", "blur", "circular motion blur by FFT: a line or a random path"),
    ("kernel-blur", "KernelBlur", "blur", "circular blur by FFT with any kernel, also one per image"),
    ("separable-blur", "SeparableBlur", "separable", "blur by two 1-D kernels with zero, reflect, symmetric or circular boundary"),
    (
        "separable-gaussian-blur",
        "SeparableGaussianBlur",
        "separable",
        "Gaussian blur with zero, reflect, symmetric or circular boundary",
    ),
    ("anisotropic-gaussian-blur", "AnisotropicGaussianBlur", "blurs", "circular Gaussian blur of two widths at an angle"),
    ("defocus-blur", "DefocusBlur", "blurs", "circular blur of a lens out of focus"),
    ("camera-shake-blur", "CameraShakeBlur", "blurs", "circular blur by the random path of a hand-held camera"),
    ("file-blur", "FileBlur", "blurs", "circular blur with a kernel from a file"),
    ("padded-file-blur", "PaddedFileBlur", "blurs", "kernel from a file with valid, reflect, symmetric or zero boundary"),
    ("padded-blur", "PaddedBlur", "padded", "any kernel with reflect, symmetric, zero or valid boundary"),
    # Fewer pixels
    ("block-mean", "BlockMean", "downsample", "super-resolution: mean of factor x factor blocks"),
    ("bicubic", "Bicubic", "downsample", "super-resolution: antialiased bicubic downsampling"),
    ("blur-decimate", "BlurDecimate", "decimate", "super-resolution: circular blur, then the upper-left pixel of each block"),
    ("through-plane", "ThroughPlane", "slices", "a volume's slices made fewer and thicker"),
    # Colour
    ("mosaic", "Mosaic", "mosaic", "demosaicing: the image of a sensor behind a Bayer filter"),
    ("grey", "Grey", "colour", "colourisation: weighted mean of the channels"),
    # Transforms: compressed sensing, matrices
    ("separable", "Separable", "separable", "two small matrices, on the rows and the columns of every channel"),
    ("walsh-hadamard", "WalshHadamard", "hadamard", "compressed sensing: some Walsh-Hadamard coefficients of every channel"),
    ("block-orthogonal", "BlockOrthogonal", "blocks", "compressed sensing: some rows of one orthogonal matrix for every block"),
    # Magnetic resonance
    ("mri", "MRI", "mri", "single-coil Cartesian MRI: some of k-space, of real or complex images"),
    ("sense", "SENSE", "sense", "multi-coil Cartesian MRI with sensitivity maps"),
    # Nonlinear
    ("phase-retrieval", "PhaseRetrieval", "phase", "the modulus of the Fourier transform of the padded image"),
    ("hdr", "HDR", "camera", "high dynamic range: the dark and the bright end clipped"),
    ("quantise", "Quantise", "camera", "few bits, with a straight-through gradient"),
    ("saturating-blur", "SaturatingBlur", "camera", "circular blur whose highlights clip"),
    ("jpeg", "JPEG", "jpeg", "JPEG compression at a quality, with a straight-through gradient"),
    # Presets of papers
    ("dps-gaussian-blur-61", "DPSGaussianBlur", "presets_blurs", "DPS: Gaussian blur of 3 pixels, reflected"),
    ("dps-motion-blur-61", "DPSMotionBlur", "presets_blurs", "DPS: random motion in 61 x 61, reflected"),
    ("dps-super-resolution-4", "DPSSuperResolution", "presets_blurs", "DPS: antialiased bicubic by 4"),
    ("dps-box-mask", "DPSBoxMask", "presets_masks", "DPS: a box of half the side missing at a random place"),
    ("dps-random-mask", "DPSRandomMask", "presets_masks", "DPS: 30 to 70 % of the pixels removed"),
    ("daps-random-mask-70", "DAPSRandomMask", "presets_masks", "DAPS: 70 % of the pixels removed"),
    ("diffpir-gaussian-blur-61", "DiffPIRGaussianBlur", "presets_blurs", "DiffPIR: circular Gaussian blur of 3 to 9 pixels"),
    ("diffpir-motion-blur-61", "DiffPIRMotionBlur", "presets_blurs", "DiffPIR: circular random motion in 61 x 61"),
    ("ddrm-uniform-blur-9", "DDRMUniformBlur", "presets_blurs", "DDRM: uniform blur, 8 of 9 taps, zeros outside"),
    ("ddrm-gaussian-blur-5", "DDRMGaussianBlur", "presets_blurs", "DDRM: Gaussian blur of 10 pixels on 4 of 5 taps, zeros outside"),
    ("ddrm-anisotropic-blur-9", "DDRMAnisotropicBlur", "presets_blurs", "DDRM: anisotropic blur, 8 of 9 taps, zeros outside"),
    ("ddrm-super-resolution-4", "DDRMSuperResolution", "presets_blurs", "DDRM and DDNM: means of 4 x 4"),
    ("red-diff-gaussian-blur-5", "REDDiffGaussianBlur", "presets_blurs", "RED-diff: Gaussian blur of 25 pixels on 4 of 5 taps"),
    ("repaint-wide-mask", "RePaintWideMask", "presets_masks", "RePaint and CoPaint: LaMa's thick strokes"),
    ("repaint-narrow-mask", "RePaintNarrowMask", "presets_masks", "RePaint and CoPaint: LaMa's thin strokes"),
)
