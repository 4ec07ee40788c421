"""The control: settings that are exact for every Gaussian prior but for the errors of their grids, and so hold the oracle itself.

Both take Cov[x0 | x_t] from the denoiser's Jacobian, and solve their systems with as many products as y has entries, exactly; by default
they take 1 and 4. They start at a noise of 20: 20 s0 = 5, the default, is 2.7 times the spread of the widest direction of a smooth field,
and what is missed there stays: .12 s.d. of the mean at any number of steps, .03 from 20 on.
"""

from __future__ import annotations

from invsolve.solvers import MMPS, OTODE

ENTRIES, START = 16, 20.0  # of the largest y of the problems of `catalogue.controlled`

OT_ODE = OTODE(products=ENTRIES, sigma_max=START)
MMPS_ALL = MMPS(iterations=ENTRIES, sigma_max=START)
