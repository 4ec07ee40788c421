from .grey import Grey as Grey
from .mosaic import Mosaic as Mosaic
