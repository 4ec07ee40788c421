"""One thread for torch: the tests' tensors are small, and two threads spend their time waiting for each other."""

import torch
from bench_cases import copy, finished, strangers  # noqa: F401 (fixtures of the benchmark tests)

torch.set_num_threads(1)
