"""Tables of papers: `invsolve bench reproduce diffpir-noisy --prior CHECKPOINT`."""

from invsolve.bench.reproduce import PublishedTable
from invsolve_benchmarks.catalogue import PUBLISHED

DIFFPIR_NOISY = PublishedTable(PUBLISHED / "diffpir-noisy.toml", "Published: DiffPIR's table of noisy problems, FFHQ")
DIFFPIR_NOISELESS = PublishedTable(PUBLISHED / "diffpir-noiseless.toml", "Published: DiffPIR's table of problems without noise, FFHQ")
