"""The page of a certificate: one file of HTML, no network, readable in light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invsolve.io.html import data_uri

if TYPE_CHECKING:
    from invsolve.predictive.certificate import Certificate
    from invsolve.predictive.ranks import Ranks

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #c9d1d9; --good: #0a6b2d; --bad: #a40e26; --bar: #4c6ef5 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0f1318; --line: #3b434b; --good: #56d364; --bad: #ff7b72 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
.verdict { font-size: 1.15rem; font-weight: 600; border-left: .4rem solid; padding: .5rem 1rem }
.yes { color: var(--good) }
.no { color: var(--bad) }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figure img { width: 16rem; max-width: 100%; image-rendering: pixelated }
figcaption { max-width: 16rem; font-size: .9rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }
th { width: 20rem; font-weight: 500 }
svg rect { fill: var(--bar) }
svg line { stroke: var(--ink) }
@media (max-width: 40rem) { th, td { display: block; width: auto } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(certificate: Certificate) -> str:
    """The whole file."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<meta http-equiv='Content-Security-Policy' content=\"{POLICY}\"><title>Certificate</title><style>{STYLE}</style></head>"
        f"<body><h1>What can be trusted of this answer</h1>{body(certificate)}<h2>How to read it</h2>{READING}</body></html>"
    )


def body(certificate: Certificate) -> str:
    """Verdict, pictures, facts and charts: what a notebook shows, too."""
    kind = "yes" if certificate.certified else "no"
    facts = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in certificate.rows()[1:])
    charts = "".join(chart(one) for one in [*certificate.ranks, *([] if certificate.tarp is None else [certificate.tarp])])
    items = "".join(item(certificate, index) for index in range(min(4, len(certificate.solution.mean))))
    ranks = "<h2>Ranks of the truth among samples</h2><p>Even bars: the samples are like draws of the posterior.</p>"
    return (
        f"<p class='verdict {kind}'>{escape(certificate.said)}</p>{items}<h2>What was found</h2><table>{facts}</table>"
        f"{ranks + charts if charts else ''}"
    )


READING = (
    "<p>The interval of a pixel reaches as far as the truth was from the samples' mean on the draws, whose truth is known. It is wide "
    "where the data say little. “Determined by the data” is the part of the answer that the measurement fixes whatever one believes; "
    "“filled in by the prior” is the rest: believable, not seen.</p>"
)


def item(certificate: Certificate, index: int) -> str:
    """The pictures of one item."""
    mean = certificate.solution.mean[index]
    low, high = (one[index] for one in certificate.interval())
    half = (high - low) / 2
    shown = [picture(mean, "the answer" + ("" if certificate.solution.samples is None else ": mean of the samples"))]
    most = float(half.max())
    shown.append(picture(grey(half) / (most or 1), f"half width of the {certificate.level:.0%} interval; white is {most:.3g}"))
    for parted, name in ((certificate.null, ""), (certificate.open, ", through the noise")):
        if parted is not None and float(parted.share()[index]) > 1e-9:
            shown.append(picture(parted.determined[index] + parted.centre, f"determined by the data{name}"))
            filled = parted.filled[index]
            signed = bool(filled.min() < -0.1)  # structure about nothing; what fills a hole is a picture by itself
            said = f"filled in by the prior{name} ({'grey' if signed else 'black'} is nothing)"
            shown.append(picture(filled + 0.5 if signed else filled, said))
    head = f"<h2>Picture {index + 1}</h2>" if len(certificate.solution.mean) > 1 else ""
    return f"{head}<div>{''.join(shown)}</div>"


def grey(image: Tensor) -> Tensor:
    """(1, H, W): the mean over channels."""
    return image.mean(0, keepdim=True)


def picture(image: Tensor, caption: str) -> str:
    """A figure; nothing for what is no picture."""
    shown = image if image.ndim == 3 and image.shape[0] in (1, 3) else grey(image) if image.ndim == 3 else None
    uri = None if shown is None else data_uri(torch.nan_to_num(shown))
    return "" if uri is None else f"<figure><img src='{uri}' alt='{escape(caption)}'><figcaption>{escape(caption)}</figcaption></figure>"


def chart(ranks: Ranks) -> str:
    """A histogram of ranks in at most ten bars, with the line at which even ones would end."""
    bars = min(10, ranks.samples + 1)
    counts = [0] * bars
    for place in ranks.places:
        counts[min(bars - 1, int(place * bars))] += 1
    most, wide = max(max(counts), 1), 200 / bars
    drawn = "".join(
        f"<rect x='{index * wide + 1:.1f}' y='{80 - 70 * count / most:.1f}' width='{wide - 2:.1f}' height='{70 * count / most:.1f}'/>"
        for index, count in enumerate(counts)
    )
    even = 80 - 70 * len(ranks.ranks) / bars / most
    words = f"{ranks.name}: {', '.join(map(str, counts))}"
    level = f"<line x1='0' x2='200' y1='{even:.1f}' y2='{even:.1f}'/>"
    return (
        f"<figure><svg width='200' height='90' role='img' aria-label='{escape(words)}'>{drawn}{level}</svg>"
        f"<figcaption>{escape(ranks.name)}, p = {ranks.p:.2g}</figcaption></figure>"
    )
