"""The core's own entries, brought in by the same hook as everybody's; its solvers are listed in `invsolve/solvers/__init__.pyi`."""

from pathlib import Path
from typing import Any

from invsolve.plugins.hookspecs import hookimpl
from invsolve.plugins.listing import listed

SOLVERS = Path(__file__).parents[1] / "solvers" / "__init__.py"
# (kind, name, target, summary), and for an operator that adds a capability to another one which.
ENTRIES: tuple[tuple[str, ...], ...] = (
    ("prior", "tv", "invsolve.priors.tv:TotalVariation", "total variation, isotropic or anisotropic"),
    ("prior", "vectorial-tv", "invsolve.priors.tv:VectorialTV", "total variation with one norm for all channels of a pixel (colour TV)"),
    ("prior", "tgv", "invsolve.priors.tgv:TotalGeneralisedVariation", "total generalised variation of second order, without stairs"),
    ("prior", "wavelet-l1", "invsolve.priors.wavelet:WaveletL1", "absolute wavelet coefficients, orthonormal Haar or Daubechies"),
    ("prior", "gaussian", "invsolve.priors.gaussian:GaussianPrior", "N(mean, C) in closed form: the oracle"),
    ("prior", "gaussian-mixture", "invsolve.priors.gaussian:GaussianMixturePrior", "mixture of Gaussians in closed form"),
    ("prior", "slicewise", "invsolve.priors.slicewise:Slicewise", "a prior of pictures on every slice of a volume"),
    ("prior", "self-ensemble", "invsolve.priors.self_ensemble:SelfEnsemble", "the mean of a denoiser's answers to turned pictures"),
    ("prior", "guided", "invsolve.priors.guidance:Guided", "classifier-free guidance of a conditional prior, at any scale"),
    ("prior", "classifier-guided", "invsolve.priors.classifier_guidance:ClassifierGuided", "a prior led by a classifier of noisy images"),
    ("prior", "clip-guided", "invsolve.priors.clip_guidance:ClipGuided", "a prior led by the embedding of a text or an image (CLIP)"),
    ("prior", "file", "invsolve.priors.files:from_file", 'the prior in a weight file or folder: { file = "mine.safetensors" }'),
    ("operator", "matrix", "invsolve.operator.matrix:MatrixOperator", "y = A x with a dense matrix, also one per image"),
    ("operator", "sparse-matrix", "invsolve.operator.matrix:SparseMatrixOperator", "y = A x with a sparse matrix"),
    ("operator", "iterative-prox", "invsolve.operator.iterative:IterativeProx", "an operator, its prox by conjugate gradients", "prox"),
    ("operator", "iterative-pinv", "invsolve.operator.iterative:IterativePinv", "an operator, its pinv by conjugate gradients", "pinv"),
    ("operator", "krylov-svd", "invsolve.operator.krylov:KrylovSVD", "the leading singular values of any operator", "svd"),
    ("operator", "chain", "invsolve.operator.chain:chain", "operators one after the other, with all the structure they keep"),
    ("operator", "composed", "invsolve.operator.algebra:Composed", "two operators one after the other, and nothing but that"),
    ("operator", "structured", "invsolve.operator.chain:structured", "two operators that keep an SVD together"),
    ("operator", "sum", "invsolve.operator.algebra:Sum", "y = H x + G x"),
    ("operator", "scaled", "invsolve.operator.algebra:Scaled", "y = c H x"),
    ("operator", "adjoint-view", "invsolve.operator.algebra:AdjointView", "y = H^T x"),
    ("operator", "stack", "invsolve.operator.algebra:Stack", "several operators on the same image: y is a tuple"),
    ("operator", "no-measurement", "invsolve.problem:NoMeasurement", "nothing is measured: what sampling without data stands on"),
    ("operator", "as-complex", "invsolve.operator.complex_data:AsComplex", "2 C real channels, real parts first, as C complex ones"),
    ("noise", "gaussian", "invsolve.noise:GaussianNoise", "y = Hx + sigma n"),
    ("noise", "poisson", "invsolve.noise:PoissonNoise", "y = gain Poisson(Hx / gain)"),
    ("noise", "none", "invsolve.noise:NoNoise", "y = Hx"),
    ("dataset", "folder", "invsolve.data:folder", "the pictures of a folder, in the order of their names"),
    ("dataset", "zip", "invsolve.data:zipped", "the pictures in a zip file, in the order of their names"),
    ("dataset", "npz", "invsolve.data:npz", "the array named images of an npz file, uint8"),
    ("dataset", "given", "invsolve.data.given:given", "the place of pictures that a suite speaks of and the user gives"),
)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """Solvers, the priors in closed form, matrices, what is made of other operators, data sets and the noise models."""
    for name, target, summary in listed(str(SOLVERS)):
        registry.add("solver", name, f"invsolve.solvers{target}", summary=summary)
    for kind, name, target, summary, *adds in ENTRIES:
        registry.add(kind, name, target, summary=summary, adds="".join(adds))
