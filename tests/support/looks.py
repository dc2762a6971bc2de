"""What a page must be for everybody: contrast, and names of controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.browser import Tab

_CONTROLS = {"button", "checkbox", "combobox", "link", "searchbox", "textbox", "treeitem", "tree"}

# Texts with less contrast than 4.5:1 to what is behind them (WCAG 2.2, 1.4.3): their text, colours and ratio. Stripes and
# pictures are not looked at: no text stands on them.
CONTRAST = """
(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((part, at) => (part * a + below[at] * (255 - a)) / 255);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 255 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || /^(SCRIPT|OPTION|NOSCRIPT)$/.test(element.tagName)) continue;
    const back = behind(element);
    let front = over(rgba(getComputedStyle(element).color), back);
    for (let at = element; at; at = at.parentElement) {
      const opacity = Number(getComputedStyle(at).opacity);
      front = front.map((part, index) => part * opacity + back[index] * (1 - opacity));
    }
    const [high, low] = [light(front), light(back)].sort((one, other) => other - one);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push([text.data.trim().slice(0, 40), front.map(Math.round).join(), back.map(Math.round).join(), ratio.toFixed(2)]);
  }
  return found;
})()
"""


def unnamed_controls(tab: Tab) -> list[object]:
    """The controls without a name that a screen reader could say."""
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    return [
        node
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"].lower() in _CONTROLS
        and not node.get("name", {}).get("value", "").strip()
    ]
