from .cartesian import MRI as MRI
from .cartesian import fourier as fourier
from .cartesian import hartley as hartley
from .cartesian import inverse_fourier as inverse_fourier
from .cartesian import joined as joined
from .cartesian import opposite as opposite
from .cartesian import paired as paired
from .sense import SENSE as SENSE
