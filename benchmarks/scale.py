"""What a run costs on many GPUs: a model of time and money, and a simulation of the scheduler that checks it, as tables in Markdown.

    python benchmarks/scale.py                           # about two minutes on one core
    python benchmarks/scale.py --write docs/scale.md     # puts the tables between the marks in that page, and its figures beside it
    python benchmarks/scale.py --dollars-an-hour 1.1 --restart 600

The model adds up; the simulation (simpy, seeded) plays every part of 10,000 cells on GPUs of different speed that die at random, with the project's own
division of the work. Images a second are public figures of forward passes; prices, restarts and the latency of a store are assumptions that an option changes.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import marked
from scheduler import HOUR, RATES, Cell, Dealt, Static, World, cells_of, simulated

from visionvitals import study
from visionvitals.run import parts
from visionvitals.run.dealing import PIECES, tasks

MARKS = ("<!-- scale: begin -->", "<!-- scale: end -->")


def model(world: World, cells: Sequence[Cell], gpus: int, images: int) -> dict[str, float]:
    """Seconds of a run whose tasks are dealt, by what they go to."""
    networks = {cell["backbone"] for cell in cells}
    work = sum(cell["cost"] for cell in cells) / gpus
    found = {
        "forward passes": work,
        "beside them": sum(cell["parts"] for cell in cells) * world.beside / gpus,
        "loading": max(len(networks), gpus) * world.load / gpus,
        "decoding": images * world.decode / (world.cores * min(world.machine, gpus)),
        "waiting for the last task": max(task.cost for task in tasks(cells, gpus)) / 2 * (1 - 1 / gpus),
    }
    if world.life:
        found["deaths"] = sum(found.values()) / world.life * (world.restart + world.load)
    return found


SWEEP = ("clean", "occlusion", "salient", "shuffle", "corner")


def passes(names: Sequence[str] = SWEEP) -> float:
    """Forward passes an image of the `paper` conditions of some studies."""
    chosen = [study.load(name) for name in names]
    return sum(each.passes(c) for each in chosen for c in each.conditions("paper", (224, 224)))


Point = Mapping[str, Any]
"""Of a figure: `line`, `x`, `utilisation`."""


def checked(world: World, conditions: int) -> tuple[str, list[Point], list[str]]:
    """The model beside the simulation, points of a figure, and what does not hold."""
    networks, images = 20, 50_000
    cells = cells_of(world, networks, conditions, images)
    lines = [
        f"**{len(cells):,} cells of {networks} networks on {images:,} images**: {sum(c['parts'] for c in cells):,} parts, "
        f"{len(cells) * images / 1e6:,.0f} million passes, {world.card}",
        "",
        "| GPUs | a process dies after, h (mean) | divided | hours | the model says | utilisation, % | deaths | parts begun again "
        "| finished twice |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    points: list[Point] = []
    missed, wrong = [], []
    for gpus, life, (name, hand_out) in product(
        (1, 8, 64), (0.0, 10 * HOUR, HOUR), (("dealt", Dealt), ("by I/N", Static))
    ):
        here = replace(world, life=life)
        r = simulated(here, cells, gpus, hand_out)
        speed = sum(cell["cost"] for cell in cells) / (r.bound * gpus)
        said = f"{sum(model(here, cells, gpus, images).values()) / speed / HOUR:.2f}" if hand_out is Dealt else ""
        dies = f"{life / HOUR:g}" if life else "never"
        lines.append(
            f"| {gpus} | {dies} | {name} | {r.makespan / HOUR:.2f} | {said} | {100 * r.utilisation:.1f} | {r.deaths} | {r.again} "
            f"| {r.twice} |"
        )
        label = f"{gpus} GPUs, {name}, {dies} h"
        wrong += [f"{label}: {r.twice} parts finished twice"] if r.twice else []
        wrong += [f"{label}: {r.again} parts begun again, {r.deaths} deaths"] if r.again > r.deaths else []
        if hand_out is Dealt and r.utilisation < 0.95:
            missed.append(f"{label}: {100 * r.utilisation:.1f} %")
        if life == 10 * HOUR:
            points.append({"line": name, "x": gpus, "utilisation": r.utilisation})
    lines += ["", f"Above 95 % where tasks are dealt, but for: {'; '.join(missed) or 'none'}."]
    return "\n".join(lines), points, wrong


def end(world: World) -> tuple[str, list[Point]]:
    """What the size of a part costs where a run is small for its GPUs, and points of a figure."""
    sizes, usual = (512, 1024, parts.SIZE, 16_384, 50_000), parts.SIZE
    lines = [
        f"**One DeiT-S, the {passes():g} passes of a `paper` sweep, 50,000 images**: utilisation in % over the images of a part, tasks dealt",
        "",
        "| GPUs | minutes at best | " + " | ".join(f"{size:,}" for size in sizes) + " |",
        "|---:|---:|" + "---:|" * len(sizes),
    ]
    points: list[Point] = []
    for gpus in (1, 8, 64):
        found = []
        for parts.SIZE in sizes:
            found.append(simulated(world, cells_of(world, 1, round(passes()), 50_000), gpus, Dealt))
            name = f"{gpus} GPU{'s' if gpus > 1 else ''}"
            points.append({"line": name, "x": parts.SIZE, "utilisation": found[-1].utilisation})
        parts.SIZE = usual
        shown = " | ".join(f"{100 * r.utilisation:.0f}" for r in found)
        lines.append(f"| {gpus} | {found[0].bound / 60:.1f} | {shown} |")
    return "\n".join(lines), points


def prices(world: World, dollars: float) -> str:
    """Hours and money of one network."""
    lines = [
        f"**One network, the {passes():g} passes of a `paper` sweep**: hours, and dollars at {dollars:g} an hour and GPU (an assumption); a "
        f"process dies after {world.life / HOUR:g} h",
        "",
        "| card | network | images | 1 GPU | 8 GPUs | 64 GPUs | dollars, 8 GPUs |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for card, network, images in product(
        ("RTX 3090, eager", "RTX 5090, eager"), ("DeiT-S", "ViT-B", "ResNet50"), (50_000, 10**6, 10**7, 10**8)
    ):
        hours = [swept(replace(world, card=card), network, images, gpus) / HOUR for gpus in (1, 8, 64)]
        shown = " | ".join(map(_short, (*hours, hours[1] * 8 * dollars)))
        lines.append(f"| {card} | {network} | {images:,} | {shown} |")
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def swept(world: World, network: str, images: int, gpus: int) -> float:
    """Seconds of a sweep of one network: as `model`, without making its parts one by one."""
    work = passes() * images * world.forward(network) / gpus
    beside = passes() * math.ceil(images / parts.SIZE) * world.beside / gpus
    decoding = images * world.decode / (world.cores * min(world.machine, gpus))
    waiting = work / PIECES / 2 * (1 - 1 / gpus)
    return (work + beside + decoding + waiting + world.load) * (1 + (world.restart + world.load) / world.life)


def bottlenecks(world: World) -> str:
    """When it is not the GPUs that are waited for."""
    lines = [
        f"**Where GPUs wait**, with {world.cores} cores each and parts of {parts.SIZE:,} images",
        "",
        "| card | network | images/s | cores that decode as fast | passes an image below which decoding takes longer | ms of a pass over a part "
        "| % beside it, with no latency | % with 30 ms a call |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for card, rates in RATES.items():
        for network in rates:
            seconds = replace(world, card=card).forward(network)
            part = parts.SIZE * seconds
            slow = [b / (b + part) for b in (replace(world, latency=each).beside for each in (0.0, 0.03))]
            lines.append(
                f"| {card} | {network} | {rates[network]:,.0f} | {world.decode / seconds:.0f} | "
                f"{world.decode / world.cores / seconds:.1f} | {1000 * part:,.0f} | {100 * slow[0]:.1f} | {100 * slow[1]:.1f} |"
            )
    return "\n".join(lines)


def drawn(points: Sequence[Point], x: str, title: str, subtitle: str) -> str:
    """Utilisation as SVG, the name on each line."""
    import altair as alt
    import vl_convert

    from visionvitals.report.looks import DASHES, LIGHT, SYMBOLS, theme, vega_lite_version

    names = list(dict.fromkeys(point["line"] for point in points))
    at = sorted({point["x"] for point in points})
    colour = alt.Color("line:N", scale=alt.Scale(domain=names), legend=None)
    dash = alt.Scale(domain=names, range=[list(each) for each in DASHES[: len(names)]])
    shape = alt.Scale(domain=names, range=list(SYMBOLS[: len(names)]))
    base = alt.Chart(alt.Data(values=list(points))).encode(
        x=alt.X("x:Q", scale=alt.Scale(type="log", nice=False), title=x, axis=alt.Axis(values=at, format=",")),
        y=alt.Y("utilisation:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)),
        color=colour,
    )
    layers = [
        base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("line:N", scale=dash, legend=None)),
        base.mark_point(filled=True, size=60).encode(shape=alt.Shape("line:N", scale=shape, legend=None)),
        base.mark_text(align="left", dx=9, fontSize=12).encode(text="line:N").transform_filter(f"datum.x == {at[-1]}"),
    ]
    whole = alt.layer(*layers).properties(width=460, height=240, title=alt.Title(title, subtitle=subtitle))
    content = whole.to_dict()
    content["config"] = theme(LIGHT, ink="#1d2127", soft="#5b636e", line="#dfe2e6") | {"background": "#ffffff"}
    content["padding"] = {"left": 5, "top": 5, "bottom": 5, "right": 20}
    return str(vl_convert.vegalite_to_svg(content, vl_version=vega_lite_version()))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dollars-an-hour", type=float, default=2.5, help="of a GPU; an assumption, no quote")
    given_by_hand = ("share", "decode", "load", "part", "latency", "restart")
    for name in given_by_hand:
        parser.add_argument(f"--{name}", type=float, default=getattr(World, name), help="see `World` in scheduler.py")
    parser.add_argument("--conditions", type=int, default=500, help="of each of the twenty networks that are simulated")
    parser.add_argument(
        "--write", type=Path, help="the page that gets the tables between its marks; figures go to images/"
    )
    given = parser.parse_args(words)
    world = World(**{name: getattr(given, name) for name in given_by_hand})
    simulation, divided, wrong = checked(world, given.conditions)
    ends, sizes = end(world)
    found = [simulation, ends, prices(replace(world, life=10 * HOUR), given.dollars_an_hour), bottlenecks(world)]
    print("\n\n".join(found))
    print(f"{len(wrong)} claims do not hold.", *wrong, sep="\n- ", file=sys.stderr)
    if given.write:
        marked.write(given.write, MARKS, found)
        about = f"{world.card}, simulated; GPUs differ by {100 * world.spread:g} %"
        for name, figure in {
            "parts": drawn(
                sizes,
                "images of a part",
                "The end of a short run",
                f"one DeiT-S, a paper sweep of 50,000 images, {about}",
            ),
            "shares": drawn(
                divided, "GPUs", "Tasks that are dealt, and shares", f"10,000 cells, a process dies after 10 h, {about}"
            ),
        }.items():
            (given.write.parent / "images" / f"scale_{name}.svg").write_text(figure, "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
