from .bm3d import BM3D as BM3D
from .shipped import IDM as IDM
from .shipped import SR3 as SR3
from .shipped import Cascade as Cascade
from .shipped import Palette as Palette
from .shipped import PartDiff as PartDiff
from .shipped import Regression as Regression
