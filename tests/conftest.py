"""One thread for torch: the tests' tensors are small, and two threads spend their time waiting for each other."""

import torch

torch.set_num_threads(1)
