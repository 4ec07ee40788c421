from .diffusion.ddim import DDIM as DDIM  # ddim: unconditional sampling, deterministic
from .diffusion.ddpm import DDPM as DDPM  # ddpm: unconditional sampling, ancestral
from .diffusion.ddrm import DDRM as DDRM  # ddrm: denoising diffusion restoration in the operator's spectrum
from .diffusion.diffpir import DiffPIR as DiffPIR  # diffpir: diffusion with a proximal data step
from .diffusion.dpm_solver import DPMSolver as DPMSolver  # dpm-solver: unconditional sampling, multistep of second order (DPM-Solver++ 2M)
from .diffusion.dps import DPS as DPS  # dps: diffusion posterior sampling, gradient through the network
from .diffusion.euler_maruyama import EulerMaruyama as EulerMaruyama  # euler-maruyama: unconditional sampling by the reverse SDE
from .diffusion.heun import Heun as Heun  # heun: unconditional sampling, second order (EDM)
from .diffusion.pf_ode import PFODE as PFODE  # pf-ode: unconditional sampling by the probability-flow ODE, adaptive step
from .diffusion.predictor_corrector import PredictorCorrector as PredictorCorrector  # predictor-corrector: unconditional sampling, with Langevin steps
from .diffusion.score_ald import ScoreALD as ScoreALD  # score-ald: annealed Langevin dynamics with an annealed likelihood
from .editing.one_shot import OneShot as OneShot  # one-shot: one denoising of a noisy image, its posterior mean
from .editing.sdedit import SDEdit as SDEdit  # sdedit: noise a guide to a middle level, come down by the prior
from .splitting.admm import ADMM as ADMM  # admm: ADMM: TV exactly, or a denoiser (plug and play)
from .splitting.hqs import HQS as HQS  # hqs: half-quadratic splitting: TV by continuation, or a denoiser (DPIR)
from .variational.adam_tv import AdamTV as AdamTV  # adam-tv: Adam on nll + weight R, any regulariser
from .variational.rl_tv import RLTV as RLTV  # rl-tv: Richardson-Lucy (EM) with TV, for counts
