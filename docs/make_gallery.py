"""Writes docs/gallery.md and docs/images/gallery: for each study what is done to one picture, and one figure.

vitals run plans/gallery.toml --out runs/gallery && python docs/make_gallery.py runs/gallery
"""

import io
import sys
from pathlib import Path

from PIL import Image

from visionvitals import study
from visionvitals.report import charts, figures, panels
from visionvitals.results import Run

ROOT = Path(__file__).parent
IMAGES = ROOT / "images" / "gallery"
SIDE = 160
HEAD = """# Gallery

What does each study do to a picture, and what does it show? All figures are of the two embedded networks on {n} embedded pictures, so that they can be
made again without a download; they are there to show the studies, not to compare networks. [Real networks](case_study.md) have pages of their own.

```
{command}
```
"""


def main(folder: Path) -> None:
    run = Run(folder)
    IMAGES.mkdir(parents=True, exist_ok=True)
    command = str(__doc__).rpartition("\n\n")[2].strip()
    parts = [HEAD.format(n=200, command=command)]
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
        lines.append(
            f"![{'; '.join(head for head in panel.heads if head) or 'one picture'}](images/gallery/{name}.webp)"
        )
        if any(panel.heads):
            lines.append(f"From left to right: {', '.join(panel.heads)}.")
    figure = next(iter(charts.plots(run, name)), None)
    if figure is not None:
        (IMAGES / f"{name}.svg").write_text(figures.svg(run, name, figure), encoding="utf-8")
        lines.append(f"![{study.load(name).title}](images/gallery/{name}.svg)")
    return "\n\n".join(lines)


def strip(row: panels.Row) -> Image.Image:
    """The pictures of one image side by side."""
    seen = [Image.open(io.BytesIO(picture.data)).convert("RGB").resize((SIDE, SIDE)) for picture in row.pictures]
    wide = Image.new("RGB", ((SIDE + 8) * len(seen) - 8, SIDE), "white")
    for place, picture in enumerate(seen):
        wide.paste(picture, ((SIDE + 8) * place, 0))
    return wide


if __name__ == "__main__":
    main(Path(sys.argv[1]))
