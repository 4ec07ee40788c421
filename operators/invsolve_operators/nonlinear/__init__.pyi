from .camera import HDR as HDR
from .camera import Quantise as Quantise
from .camera import SaturatingBlur as SaturatingBlur
from .jpeg import JPEG as JPEG
from .phase import PhaseRetrieval as PhaseRetrieval
