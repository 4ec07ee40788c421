from .demosaic import DemosaicNet as DemosaicNet
from .galaxy import Galaxy as Galaxy
from .stlpips import STLPIPS as STLPIPS
