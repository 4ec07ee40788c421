from .shipped import DnCNNGray as DnCNNGray
from .shipped import DnCNNPrior as DnCNNPrior
from .shipped import Faces64 as Faces64
from .shipped import Mnist as Mnist
from .shipped import MnistFew as MnistFew
from .shipped import Natural as Natural
from .shipped import NaturalFew as NaturalFew
from .shipped import NaturalGray as NaturalGray
