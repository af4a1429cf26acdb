"""Elements of SVG as text, and the look that all pictures share: colours follow the reader's light or dark scheme.

Written by hand, so that a report needs no plotting library; every text is escaped in one place (`element`).
"""

from xml.sax.saxutils import escape, quoteattr

Pixels = int | float

LIGHT = """--paper: #ffffff; --ink: #1f2328; --muted: #59636e; --grid: #e4e8ec; --row: #f6f8fa;
--dot: #0969da; --fail: #cf222e; --yardstick: #b4bec8; --jax: #8250df; --beyond: #cf222e14;"""
DARK = """--paper: #0d1117; --ink: #e6edf3; --muted: #9198a1; --grid: #262c36; --row: #151b23;
--dot: #58a6ff; --fail: #ff7b72; --yardstick: #59636e; --jax: #bc8cff; --beyond: #ff7b721f;"""

COLOURS = f"""
svg {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ svg {{ {DARK} }} }}
"""

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; fill: var(--ink); }
.title { font-size: 16px; font-weight: 600; }
.panel { font-weight: 600; }
.muted { fill: var(--muted); font-size: 12px; }
.end { text-anchor: end; font-variant-numeric: tabular-nums; }
.middle { text-anchor: middle; }
.paper { fill: var(--paper); stroke: var(--grid); }
.row { fill: var(--row); }
.grid { stroke: var(--grid); }
.axis { stroke: var(--muted); }
"""


def picture(width: int, height: int, style: str, *body: str) -> str:
    """A whole picture on its paper. body: elements, the first of them its title."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    paper = element("rect", class_="paper", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=8)
    title, *rest = body
    return "\n".join(
        [f'{head} role="img">', title, f"<style>{COLOURS}{STYLE}{style}</style>", paper, *rest, "</svg>", ""]
    )


def inline(width: int, height: int, label: str, *body: str) -> str:
    """A picture within a page, which has the colours and the style; `label` says in words what it shows."""
    return element("svg", *body, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def line_down(class_: str, x: Pixels, top: Pixels, bottom: Pixels) -> str:
    """A vertical line."""
    return element("line", class_=class_, x1=x, x2=x, y1=top, y2=bottom)


def text(x: Pixels, y: Pixels, words: str, class_: str = "") -> str:
    """Words whose baseline starts at (x, y), or ends there or has its middle there, by class."""
    return element("text", words, **({"class_": class_} if class_ else {}), x=x, y=y)


def element(tag: str, *children: str, **attributes: object) -> str:
    """One element of SVG or HTML. Children are text, escaped, unless they are elements made here."""
    named = "".join(f" {_attribute(name)}={quoteattr(str(value))}" for name, value in attributes.items())
    content = "".join(child if isinstance(child, _Markup) else escape(child) for child in children)
    return _Markup(f"<{tag}{named}>{content}</{tag}>" if children else f"<{tag}{named}/>")


def _attribute(name: str) -> str:
    """As markup writes it: `class_` is class, `aria_label` is aria-label."""
    return name.rstrip("_").replace("_", "-")


class _Markup(str):
    """Text that `element` made, escaped already."""

    __slots__ = ()
