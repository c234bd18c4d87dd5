"""How good and how quick is the library by itself, beside other people's methods, on the face GAN?

All on one machine in one process with one perceptual metric, one picture at a time where nothing else is said.
"auto" is a job with nothing set but picture, seed and budget.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from latent_inv.device import place
from latent_inv.engine.engine import Engine
from latent_inv.errors import AssetError, UnsupportedError
from latent_inv.generators import GENERATORS
from latent_inv.images import Picture, encode_png, load, to_uint8
from latent_inv.perceptual import load_metric
from latent_inv.solve import run as run_one
from latent_inv.spec import Adam, Budget, Encoder, EncodeSpec, JobSpec

from .figures import Figure, Options, run_parts
from .out_of_range import pictures as out_of_range_pictures
from .quality_table import METRIC, table
from .rivals import Projector, projector
from .spine import bare_step, interleaved, run_all, targets
from .traces import Trace, asked, psnr_of, run_traced

#: a picture whose latents were found, not only approached
EXACT_DB = 100.0


def run(options: Options) -> list[Figure]:
    """All figures, or those of the parts that were asked for."""
    engine = Engine(GENERATORS, place("cpu"))
    # Weights are loaded and kernels warm before any clock runs.
    auto(engine, targets(engine, 1, options.seed)[0], Options(seed=options.seed, quick=True))
    return run_parts({name: partial(part, engine, options) for name, part in PARTS.items()}, options)


def auto(engine: Engine, picture: Picture, options: Options, index: int = 0, **settings: Any) -> Trace:
    """One picture, everything left to the library."""
    asking = {**asked("auto", quick=options.quick), **settings}
    return run_traced(engine, [picture], options.seed + index, **asking)[0]


def say(index: int, count: int, text: str) -> None:
    """A line for a target that is done."""
    print(f"    {index + 1:3}/{count}  {text}", flush=True)


def speedup(engine: Engine, options: Options) -> list[Figure]:
    """Time of the projector to its own final quality ÷ time of auto to the same quality on the same picture."""
    generator, metric = engine.catalogue.load("faces", "float32"), load_metric(METRIC)
    count = options.targets(32)
    ratios, times, missed = [], [], 0
    pictures = targets(engine, count, options.seed + 10)
    for index, picture in enumerate(pictures):
        theirs = projector(generator, metric, picture, options.seed + index, options.quick)
        psnr, lpips = theirs.final.psnr_db, theirs.final_lpips
        needed = theirs.first(psnr, lpips) or theirs.final.seconds
        # To that quality and no further, result included: what a user has to wait for who asks for just that.
        ours = auto(engine, picture, options, index, budget=Budget(target_psnr_db=psnr, target_lpips=lpips))
        enough = ours.final.psnr_db >= psnr and ours.final_lpips <= lpips
        reached = ours.final.seconds if enough else None
        missed += reached is None
        ratios.append(0.0 if reached is None else needed / reached)
        times.append(needed)
        when = "never" if reached is None else f"after {reached:.2f} s"
        say(index, count, f"projector {psnr:.1f} dB, LPIPS {lpips:.4f} in {needed:.1f} s; auto has that {when}")
    rival = Projector(generator, metric, pictures[0], options.seed)
    bare = bare_step(engine, pictures[:1])
    interleaved(rival.step, bare, 3)
    seconds = interleaved(rival.step, bare, 4 if options.quick else 100)
    step, floor = (1e3 * statistics.median(durations) for durations in seconds)
    detail = f"median of {count}, from {min(ratios):.1f} to {max(ratios):.1f}; {missed} never reached (as 0)"
    detail += f"; projector {statistics.median(times):.1f} s, {step:.2f} ms a step, bare {floor:.2f} ms"
    return [
        Figure("speedup_vs_projector", statistics.median(ratios), "×", f"{detail}: {step / floor:.3f}"),
        Figure("projector_over_bare_step", step / floor, "", f"{step:.2f} ms, {floor:.2f} ms, interleaved"),
    ]


def exact(engine: Engine, options: Options) -> list[Figure]:
    """In-range float targets that auto takes to `EXACT_DB`, and when."""
    count = options.targets(256)
    found, until, stopped = 0, [], []
    for index, picture in enumerate(targets(engine, count, options.seed + 20)):
        trace = auto(engine, picture, options, index)
        reached = trace.first(EXACT_DB)
        found += reached is not None
        until.append(trace.final.seconds if reached is None else reached)
        stopped.append(trace.final.seconds)
        say(index, count, f"{trace.final.psnr_db:.1f} dB, {until[-1]:.2f} s, stopped after {stopped[-1]:.2f} s")
    counted = f"{found} of {count}; one that was not found counts with its whole run"
    return [
        Figure("exact_share", found / count, "", f"{found} of {count} at {EXACT_DB:g} dB or above"),
        Figure("exact_median_s", statistics.median(until), "s", counted),
        Figure("exact_p95_s", float(np.quantile(until, 0.95)), "s", counted),
        Figure("exact_stop_median_s", statistics.median(stopped), "s", "with the time until the library stops"),
    ]


def png(engine: Engine, options: Options) -> list[Figure]:
    """Targets in 8 bits: is the result, rounded, the same picture?"""
    count = options.targets(32)
    shares, worst = [], []
    for index, picture in enumerate(targets(engine, count, options.seed + 30)):
        target = load(encode_png(picture.pixels))
        trace = auto(engine, target, options, index)
        levels = np.abs(to_uint8(trace.image).astype(np.int16) - to_uint8(target.pixels))
        shares.append(float((levels == 0).mean()))
        worst.append(int(levels.max()))
        say(index, count, f"{100 * shares[-1]:.2f} % equal, worst {worst[-1]} levels, {trace.final.seconds:.2f} s")
    exact_ones = sum(level == 0 for level in worst)
    return [
        Figure("png_level_share", statistics.mean(shares), "", f"mean of {count}, the least {min(shares):.4f}"),
        Figure("png_max_level", max(worst), "levels", f"worst value of {count}; {exact_ones} are equal in all"),
    ]


def jpeg(engine: Engine, options: Options) -> list[Figure]:
    """Targets as JPEG of quality 50: how near is the result to what the JPEG was made of?"""
    count = options.targets(32)
    cleaned, given = [], []
    for index, picture in enumerate(targets(engine, count, options.seed + 40)):
        buffer = io.BytesIO()
        Image.fromarray(to_uint8(picture.pixels)).save(buffer, format="JPEG", quality=50)
        target = load(buffer.getvalue())
        trace = auto(engine, target, options, index)
        cleaned.append(_psnr(trace.image, picture.pixels))
        given.append(_psnr(target.pixels, picture.pixels))
        say(index, count, f"{cleaned[-1]:.1f} dB, the JPEG {given[-1]:.1f} dB, {trace.final.seconds:.2f} s")
    detail = (
        f"mean of {count}, from {min(cleaned):.1f} to {max(cleaned):.1f}; the JPEGs {statistics.mean(given):.1f} dB"
    )
    return [Figure("jpeg50_psnr_db", statistics.mean(cleaned), "dB", detail)]


def _psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return psnr_of(float(np.square(image.astype(np.float64) - clean).mean()))


def encoder(engine: Engine, options: Options) -> list[Figure]:
    """The encoder alone, on samples that it has not seen."""
    count = options.targets(256)
    metric = load_metric(METRIC)
    psnr, lpips, seconds = [], [], []
    for picture in targets(engine, count, options.seed + 50):
        began = time.perf_counter()
        try:
            image = run_one(engine, EncodeSpec(picture=picture, generator="faces")).image
        except (UnsupportedError, AssetError) as error:
            print(f"    left out: {error}", flush=True)
            return []
        seconds.append(time.perf_counter() - began)
        psnr.append(_psnr(image, picture.pixels))
        with torch.no_grad():
            pair = [torch.from_numpy(pixels.copy())[None] for pixels in (image, picture.pixels)]
            lpips.append(float(metric(*pair)))
    milliseconds = 1e3 * statistics.median(seconds)
    detail = f"mean of {count}, from {min(psnr):.1f} to {max(psnr):.1f}; {milliseconds:.0f} ms each"
    return [
        Figure("encoder_psnr_db", statistics.mean(psnr), "dB", detail),
        Figure("encoder_lpips", statistics.mean(lpips), METRIC, f"from {min(lpips):.4f} to {max(lpips):.4f}"),
    ]


def batch(engine: Engine, options: Options) -> list[Figure]:
    """Adam jobs in lanes against the same jobs one by one, and what the kernels alone gain by that width."""
    width = engine.placement.lane_width
    groups, steps = (1, 3) if options.quick else (max(1, options.targets(32) // (2 * width)), 100)
    count = groups * 2 * width
    # From the library's own start, in steps that suit it. From random ones, or in steps as long as the prior is wide,
    # paths at two widths part like those of two seeds, by whole dB, by which no loss could be told.
    adam = Adam(learning_rate=0.05)
    settings: dict[str, Any] = {"solver": adam, "initialiser": Encoder(), "budget": Budget(steps=steps)}
    pictures = targets(engine, count, options.seed + 60)
    wide_bare, single_bare = bare_step(engine, pictures[:width]), bare_step(engine, pictures[:1])
    lanes, single = 0.0, 0.0
    psnr: tuple[list[float], list[float]] = ([], [])
    bare: tuple[list[float], list[float]] = ([], [])
    # In groups by turns, so that all meet the same machine.
    for group in range(groups):
        members = range(group * 2 * width, (group + 1) * 2 * width)
        specs = {
            f"{i}": JobSpec(picture=pictures[i], generator="faces", seed=options.seed + i, **settings) for i in members
        }
        began = time.perf_counter()
        results = run_all(engine, {name: replace(spec, priority="bulk") for name, spec in specs.items()})
        middle = time.perf_counter()
        alone = [run_all(engine, {name: spec})[name] for name, spec in specs.items()]
        end = time.perf_counter()
        lanes, single = lanes + middle - began, single + end - middle
        psnr[0].extend(result.metrics.psnr_db for result in results.values())
        psnr[1].extend(result.metrics.psnr_db for result in alone)
        for durations, seen in zip(bare, interleaved(wide_bare, single_bare, 3 if options.quick else 15), strict=True):
            durations.extend(seen)
        say(group, groups, f"{len(specs)} jobs: {middle - began:.1f} s in lanes, {end - middle:.1f} s one by one")
    gain = single / lanes
    of_bare = width * statistics.median(bare[1]) / statistics.median(bare[0])
    quality = [statistics.median(values) for values in psnr]
    each = [one - other for one, other in zip(*psnr, strict=True)]
    error = statistics.stdev(each) / len(each) ** 0.5
    detail = f"{count} jobs, {steps} steps, width {width}; median PSNR {quality[0]:.2f} and {quality[1]:.2f} dB"
    detail += f", job by job {statistics.mean(each):+.3f} ± {error:.3f} dB"
    return [
        Figure("batch_gain", gain, "×", f"{detail}, apart {abs(quality[0] - quality[1]):.3f} dB"),
        Figure("batch_gain_of_bare", gain / of_bare, "", f"the bare kernels gain {of_bare:.2f} × an image"),
    ]


def deadline(engine: Engine, options: Options) -> list[Figure]:
    """Jobs with two seconds: how many are over in time? Half are pictures that end before, half such as never do."""
    count, seconds = options.targets(20), 0.5 if options.quick else 2.0
    allowed, kept, worst = seconds + 0.1, 0, 0.0
    hard = list(out_of_range_pictures(options.seed, faces=max(1, count // 2), eyes=0).values())[: count // 2]
    for index, picture in enumerate([*targets(engine, count - len(hard), options.seed + 70), *hard]):
        spec = JobSpec(picture=picture, generator="faces", seed=options.seed + index, budget=Budget(seconds=seconds))
        result = run_all(engine, {"job": spec})["job"]
        kept += result.seconds <= allowed
        worst = max(worst, result.seconds)
        say(index, count, f"{result.outcome.name} after {result.seconds:.3f} s, {result.metrics.psnr_db:.1f} dB")
    return [Figure("deadline_share", kept / count, "", f"within {allowed:g} s, worst of {count}: {worst:.3f} s")]


def out_of_range(engine: Engine, options: Options) -> list[Figure]:
    """Pictures that this generator cannot make: distance of auto ÷ distance of the projector."""
    generator, metric = engine.catalogue.load("faces", "float32"), load_metric(METRIC)
    faces, eyes = (1, 1) if options.quick else (8, 4)
    pictures = out_of_range_pictures(options.seed, faces=faces, eyes=eyes)
    ratios = {}
    for index, (name, picture) in enumerate(pictures.items()):
        theirs = projector(generator, metric, picture, options.seed + index, options.quick)
        ours = auto(engine, picture, options, index)
        ratios[name] = ours.final_lpips / theirs.final_lpips
        text = f"{name}: LPIPS {ours.final_lpips:.4f} and {theirs.final_lpips:.4f}, ratio {ratios[name]:.3f}"
        say(index, len(pictures), f"{text}; {ours.final.seconds:.1f} and {theirs.final.seconds:.1f} s")
    each = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
    return [
        Figure("oor_worst_lpips_ratio", max(ratios.values()), "", each),
        Figure("oor_mean_lpips_ratio", statistics.mean(ratios.values()), "", f"of {len(ratios)} pictures"),
    ]


PARTS: dict[str, Callable[[Engine, Options], list[Figure]]] = {
    "speedup": speedup,
    "exact": exact,
    "png": png,
    "jpeg": jpeg,
    "encoder": encoder,
    "batch": batch,
    "deadline": deadline,
    "out_of_range": out_of_range,
    "table": table,
}
