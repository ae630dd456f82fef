"""Writes docs/gallery.md and docs/images/gallery: for each study what is done to one picture, and one figure.

vitals run plans/gallery.toml --out runs/gallery && python docs/make_gallery.py runs/gallery
"""

import io
import sys
from pathlib import Path

from PIL import Image

import visionvitals
from visionvitals import study
from visionvitals.report import charts, figures, panels
from visionvitals.results import Run, words

ROOT = Path(__file__).parent
IMAGES = ROOT / "images" / "gallery"
SIDE = 160
HEAD = """# Gallery

What does each study do to a picture, and what does it show? All figures are of the two embedded networks on 60 embedded pictures (24 or
320 where a study needs fewer or more), so that they can be made again without a download; they are there to show
the studies, not to compare networks. [Real networks](case_study.md) have pages of their own.

```
{command}
```
"""


def main(folder: Path) -> None:
    run = visionvitals.Run(folder).results
    IMAGES.mkdir(parents=True, exist_ok=True)
    command = str(__doc__).rpartition("\n\n")[2].strip()
    parts = [HEAD.format(command=command)]
    for name in run.studies:
        parts.append(
            f"## {study.load(name).title}\n\n{study.load(name).asks}\n\n{shown(run, name)}\n\n[More](studies/{name}.md)\n"
        )
    (ROOT / "gallery.md").write_text("\n".join(parts), encoding="utf-8")


def shown(run: Run, name: str) -> str:
    """The pictures of a study and its first figure, as Markdown; their files are written."""
    lines = []
    panel = next((p for p in panels.panels(run, name) if p.rows), None)
    if panel is not None:
        strip(panel.rows[0]).save(IMAGES / f"{name}.webp", quality=80)
        told = [head for head in panel.heads if head]
        by = next(iter(study.load(name).charts)).x_title
        several = f"{by}, from left to right: {', '.join(told)}"
        fixed = words.condition({key: value for key, value in panel.fixed.items() if value != "none"})
        one = ", ".join(filter(None, (fixed, *(head for head in told if head != "0")))) or "one picture"
        said = several if len(told) > 1 else one
        said = f"{said[:1].upper()}{said[1:]}."
        lines += [f"![{said}](images/gallery/{name}.webp)", said if told else ""]
    figure = next(iter(charts.plots(run, name)), None)
    if figure is not None:
        (IMAGES / f"{name}.svg").write_text(figures.svg(run, name, figure), encoding="utf-8")
        lines.append(f"![{study.load(name).title}](images/gallery/{name}.svg)")
    return "\n\n".join(line for line in lines if line)


def strip(row: panels.Row) -> Image.Image:
    """The pictures of one image side by side."""
    seen = [Image.open(io.BytesIO(picture.data)).convert("RGB").resize((SIDE, SIDE)) for picture in row.pictures]
    wide = Image.new("RGB", ((SIDE + 8) * len(seen) - 8, SIDE), "white")
    for place, picture in enumerate(seen):
        wide.paste(picture, ((SIDE + 8) * place, 0))
    return wide


if __name__ == "__main__":
    main(Path(sys.argv[1]))
