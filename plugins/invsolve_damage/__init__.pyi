from .finding import Found as Found
from .finding import find_damage as find_damage
from .outliers import outliers as outliers
from .shipped import damage as damage
