from .auto import Auto as Auto  # auto: what the tables recommend for the problem and the prior, and why
from .decoupled.daps import DAPS as DAPS  # daps: decoupled annealing, a draw given y about every estimate
from .decoupled.mgdm import MGDM as MGDM  # mgdm: Gibbs sampler that guides a state far below the level it is at
from .decoupled.pnp_dm import PnPDM as PnPDM  # pnp-dm: split Gibbs sampler, a denoising diffusion as its prior step
from .decoupled.red_diff import REDDiff as REDDiff  # red-diff: regularisation by denoising under noise, by Adam
from .direct.interpolation import Bicubic as Bicubic  # bicubic: super-resolution; y interpolated, without a prior: the baseline
from .direct.interpolation import Nearest as Nearest  # nearest: super-resolution; y's pixels repeated, without a prior: the baseline
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
from .diffusion.spectral import Spectral as Spectral  # spectral: DiffPIR's step with a covariance per frequency, for any linear operator
from .editing.cascade import Cascade as Cascade  # cascade: a small image and then a larger one, by a conditional network each
from .editing.cascade import Stage as Stage
from .editing.cascade import cascade as cascade
from .editing.diffedit import DiffEdit as DiffEdit  # diffedit: another condition for an image, where the two conditions disagree
from .editing.one_shot import OneShot as OneShot  # one-shot: one denoising of a noisy image, its posterior mean
from .editing.partdiff import PartDiff as PartDiff  # partdiff: super-resolution by the last K of T steps of a conditional network
from .editing.sdedit import SDEdit as SDEdit  # sdedit: noise a guide to a middle level, come down by the prior
from .flow.cm4ir import CM4IR as CM4IR  # cm4ir: few calls of a consistency model, each guided to the data
from .flow.few_step import FewStep as FewStep  # few-step: draws from the prior in a few calls of a few-step map
from .flow.latino import LATINO as LATINO  # latino: few-step maps with a proximal data step
from .flow.ot_ode import OTODE as OTODE  # ot-ode: the flow's ODE given y, covariance by Tweedie's formula
from .flow.pnp_flow import PnPFlow as PnPFlow  # pnp-flow: data step, noise, denoiser; forward-backward along a flow
from .guidance.jfps import JFPS as JFPS  # jfps: guided by a covariance of the signal, without a backward pass
from .guidance.mcg import MCG as MCG  # mcg: manifold constrained gradients, a gradient through the network and a projection
from .guidance.mmps import MMPS as MMPS  # mmps: moment matching, guided by the network's own covariance, exact for Gaussians
from .guidance.mpgd import MPGD as MPGD  # mpgd: manifold preserving guidance, a gradient step on the estimate
from .guidance.pigdm import PiGDM as PiGDM  # pigdm: pseudoinverse-guided diffusion, a gradient through the network
from .inpainting.copaint import CoPaint as CoPaint  # copaint: inpainting; states moved by the gradient until they fit, then DDIM
from .inpainting.copaint_fast import CoPaintFast as CoPaintFast  # copaint-fast: inpainting; copaint with one gradient step a level
from .inpainting.copaint_tt import CoPaintTT as CoPaintTT  # copaint-tt: inpainting; copaint with time travel
from .inpainting.lanpaint import LanPaint as LanPaint  # lanpaint: inpainting; Langevin steps in which known and unknown pixels meet
from .inpainting.repaint import RePaint as RePaint  # repaint: inpainting; known pixels put back at each level, up and down again
from .inpainting.replacement import Replacement as Replacement  # replacement: inpainting; known pixels put back at each level
from .inpainting.resampling import Resampling as Resampling  # resampling: inpainting; particles weighed by a path of the known pixels
from .latent.flowchef import FlowChef as FlowChef  # flowchef: flows, in images or codes; steered by the data's gradient at the estimates
from .latent.flowdps import FlowDPS as FlowDPS  # flowdps: flows, in images or codes; estimates pulled to the data, noise partly renewed
from .latent.latent_daps import LatentDAPS as LatentDAPS  # latent-daps: daps in codes, draws through the decoder
from .latent.latent_dps import LatentDPS as LatentDPS  # latent-dps: dps in codes, a gradient through decoder and network
from .latent.latent_lanpaint import LatentLanPaint as LatentLanPaint  # latent-lanpaint: inpainting; lanpaint on the codes of shown pixels
from .latent.latent_repaint import LatentRePaint as LatentRePaint  # latent-repaint: inpainting; repaint on the codes of shown pixels
from .latent.psld import PSLD as PSLD  # psld: latent-dps with a pull to the code of the image that y makes
from .latent.resample import ReSample as ReSample  # resample: codes fitted to y up to its noise, the state drawn anew about them
from .particles.tds import TDS as TDS  # tds: twisted sequential Monte Carlo, exact as particles grow
from .projection.ccdf import CCDF as CCDF  # ccdf: come closer diffuse faster, replacement from a low level
from .projection.ddnm import DDNM as DDNM  # ddnm: null-space model, y in the range of every estimate
from .projection.ddnm_plus import DDNMPlus as DDNMPlus  # ddnm-plus: null-space model for noisy measurements
from .projection.dds import DDS as DDS  # dds: decomposed diffusion, a few conjugate-gradient steps on every estimate
from .projection.ilvr import ILVR as ILVR  # ilvr: replacement of what the state has of y, level by level
from .projection.score_sde import ScoreSDE as ScoreSDE  # score-sde: reverse SDE with a projection onto the noised measurement
from .splitting.admm import ADMM as ADMM  # admm: ADMM: TV exactly, or a denoiser (plug and play)
from .splitting.hqs import HQS as HQS  # hqs: half-quadratic splitting: TV by continuation, or a denoiser (DPIR)
from .splitting.pgm import PGM as PGM  # pgm: proximal gradient with a denoiser (PnP-ISTA, PnP-FISTA)
from .splitting.red import RED as RED  # red: regularisation by denoising, fixed point or gradient
from .variational.adam_tv import AdamTV as AdamTV  # adam-tv: Adam on nll + weight R, any regulariser
from .variational.fista import FISTA as FISTA  # fista: accelerated proximal gradient, any regulariser with a prox
from .variational.lbfgs import LBFGS as LBFGS  # lbfgs: L-BFGS on a smoothed objective, linear and nonlinear operators
from .variational.pdhg_tv import PDHGTV as PDHGTV  # pdhg-tv: primal-dual with TV, any linear operator, stopped by the duality gap
from .variational.rl_tv import RLTV as RLTV  # rl-tv: Richardson-Lucy (EM) with TV, for counts
from .warm_start import WarmStart as WarmStart  # warm-start: a solver from where another one ends
