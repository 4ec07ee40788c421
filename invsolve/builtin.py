"""The core's own entries, brought in by the same hook as everybody's."""

from typing import Any

from invsolve.hookspecs import hookimpl


@hookimpl
def invsolve_register(registry: Any) -> None:
    """Solvers, the priors in closed form, matrices, what is made of other operators, and the noise models."""
    add = registry.add
    add("solver", "adam-tv", "invsolve.solvers.variational.adam_tv:AdamTV", summary="Adam on nll + weight R, any regulariser")
    add("solver", "rl-tv", "invsolve.solvers.variational.rl_tv:RLTV", summary="Richardson-Lucy (EM) with TV, for counts")
    add("solver", "hqs", "invsolve.solvers.splitting.hqs:HQS", summary="half-quadratic splitting: TV by continuation, or a denoiser (DPIR)")
    add("solver", "admm", "invsolve.solvers.splitting.admm:ADMM", summary="ADMM: TV exactly, or a denoiser (plug and play)")
    add("solver", "dps", "invsolve.solvers.diffusion.dps:DPS", summary="diffusion posterior sampling, gradient through the network")
    add("solver", "diffpir", "invsolve.solvers.diffusion.diffpir:DiffPIR", summary="diffusion with a proximal data step")
    add("solver", "ddrm", "invsolve.solvers.diffusion.ddrm:DDRM", summary="denoising diffusion restoration in the operator's spectrum")
    add(
        "solver",
        "score-ald",
        "invsolve.solvers.diffusion.score_ald:ScoreALD",
        summary="annealed Langevin dynamics with an annealed likelihood",
    )
    add("solver", "ddim", "invsolve.solvers.diffusion.ddim:DDIM", summary="unconditional sampling, deterministic")
    add("solver", "ddpm", "invsolve.solvers.diffusion.ddpm:DDPM", summary="unconditional sampling, ancestral")
    add("solver", "heun", "invsolve.solvers.diffusion.heun:Heun", summary="unconditional sampling, second order (EDM)")
    add("prior", "tv", "invsolve.priors.tv:TotalVariation", summary="total variation, isotropic or anisotropic")
    add("prior", "gaussian", "invsolve.priors.gaussian:GaussianPrior", summary="N(mean, C) in closed form: the oracle")
    add("prior", "gaussian-mixture", "invsolve.priors.gaussian:GaussianMixturePrior", summary="mixture of Gaussians in closed form")
    add("operator", "matrix", "invsolve.matrix:MatrixOperator", summary="y = A x with a dense matrix, also one per image")
    add("operator", "sparse-matrix", "invsolve.matrix:SparseMatrixOperator", summary="y = A x with a sparse matrix")
    add("operator", "iterative-prox", "invsolve.linalg:IterativeProx", summary="an operator, its prox by conjugate gradients", adds="prox")
    add("operator", "iterative-pinv", "invsolve.linalg:IterativePinv", summary="an operator, its pinv by conjugate gradients", adds="pinv")
    add("operator", "krylov-svd", "invsolve.krylov:KrylovSVD", summary="the leading singular values of any operator", adds="svd")
    add("operator", "chain", "invsolve.chain:chain", summary="operators one after the other, with all the structure they keep")
    add("operator", "composed", "invsolve.algebra:Composed", summary="two operators one after the other, and nothing but that")
    add("operator", "structured", "invsolve.chain:structured", summary="two operators that keep an SVD together")
    add("operator", "sum", "invsolve.algebra:Sum", summary="y = H x + G x")
    add("operator", "scaled", "invsolve.algebra:Scaled", summary="y = c H x")
    add("operator", "adjoint-view", "invsolve.algebra:AdjointView", summary="y = H^T x")
    add("operator", "stack", "invsolve.algebra:Stack", summary="several operators on the same image: y is a tuple")
    add("operator", "no-measurement", "invsolve.problem:NoMeasurement", summary="nothing is measured: what sampling without data stands on")
    add("operator", "as-complex", "invsolve.complex_data:AsComplex", summary="2 C real channels, real parts first, as C complex ones")
    add("noise", "gaussian", "invsolve.noise:GaussianNoise", summary="y = Hx + sigma n")
    add("noise", "poisson", "invsolve.noise:PoissonNoise", summary="y = gain Poisson(Hx / gain)")
    add("noise", "none", "invsolve.noise:NoNoise", summary="y = Hx")
    add("dataset", "folder", "invsolve.data:folder", summary="the pictures of a folder, in the order of their names")
    add("dataset", "zip", "invsolve.data:zipped", summary="the pictures in a zip file, in the order of their names")
    add("dataset", "npz", "invsolve.data:npz", summary="the array named images of an npz file, uint8")
