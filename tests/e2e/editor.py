"""The labelling page of one task as an annotator uses it: tools, labels, prompts, suggestions.

What the editor made of it is read from its store, `window.Htx`; nothing is assumed to have
happened before the store shows it.
"""

from collections.abc import Sequence
from typing import Any

from selenium.webdriver.common.keys import Keys

from .browser import GEOMETRY, Browser, Point

Json = dict[str, Any]

AUTO_ANNOTATION = "return window.Htx.autoAnnotation"

NEGATIVE = Keys.ALT  # the key that turns a click into "not this"

# What must have come to rest before a click means anything: Label Studio loads a task a second
# time soon after the first, and the editor lays the page out again. Null until an annotation is
# selected and its picture is there.
AT_REST = (
    "const geometry = (() => {" + GEOMETRY + "})();"
    """
const store = window.Htx && window.Htx.annotationStore;
if (!geometry || !store) return null;
if (!store.selected || store.selected.type !== 'annotation') return null;
const image = store.selected.objects.find((tag) => tag.type === 'image');
return JSON.stringify([store.selected.id, image.stageWidth, geometry]);
"""
)

TOOL = """
const [name, smart] = arguments;
const tools = window.ToolManager.allInstances().flatMap((manager) => manager.allTools());
const tool = tools.find((each) => each.toolName === name && each.dynamic === smart);
if (!tool) return null;
if (!tool.selected) tool.manager.selectTool(tool, true);
return tool.selected;
"""

LABEL = """
const [control, value] = arguments;
const tag = window.Htx.annotationStore.selected.names.get(control);
const label = tag && tag.findLabel(value);
if (!label) return null;
if (!label.selected) label.onClick();
return label.selected;
"""

REGIONS = """
const annotation = window.Htx.annotationStore.selected;
const areas = arguments[0] ? [...annotation.suggestions.values()] : annotation.regions;
return areas.map((area) => ({
  id: area.cleanId, type: area.type, labels: area.labels, smart: area.dynamic,
}));
"""


class Editor:
    """The page of one task, opened with an annotation of one's own and Auto-Annotation on."""

    def __init__(self, browser: Browser, url: str, project: int, task: int) -> None:
        self._browser = browser
        browser.visit(f"{url}/projects/{project}/data?task={task}")
        seen: list[object] = []

        def rests() -> bool:
            seen.append(browser.run(AT_REST))
            return None not in seen[-5:] and len(seen) >= 5 and len(set(seen[-5:])) == 1

        browser.until(rests, "the editor to come to rest")
        self.switch_auto_annotation_on()

    def switch_auto_annotation_on(self) -> None:
        """With the switch of the bottom bar, where it is not on already."""
        if not self._browser.run(AUTO_ANNOTATION):
            self._click("auto-annotation-toggle")
        self._browser.until(lambda: self._browser.run(AUTO_ANNOTATION), "Auto-Annotation to be on")

    def has_tool(self, tool: str, *, smart: bool) -> bool:
        """Whether the editor offers it: `tool` as its class is named, "KeyPointTool"."""
        return self._browser.run(TOOL, tool, smart) is not None

    def draw(
        self,
        tool: str,
        control: str,
        label: str,
        points: Sequence[Point],
        *,
        smart: bool = True,
        negative: bool = False,
    ) -> Json:
        """Take a tool and a label, press, move and let go; returns the region that came of it.

        Starts over where the page was laid out anew meanwhile and nothing came of it.
        """
        before = {region["id"] for region in self.regions()}

        def attempt() -> Json | None:
            self._browser.run("window.Htx.annotationStore.selected.unselectAll()")
            if not self._browser.run(TOOL, tool, smart):
                return None
            if not self._browser.run(LABEL, control, label):
                return None
            self._browser.drag_on_picture(points, key=NEGATIVE if negative else None)
            return self._browser.poll(lambda: self._new_region(before), 3)

        drawn: Json = self._browser.until(attempt, f"{tool} of {control} to draw a {label!r}")
        return drawn

    def point_at(self, control: str, label: str, place: Point, *, negative: bool = False) -> Json:
        """Prompt with a key point."""
        return self.draw("KeyPointTool", control, label, [place], negative=negative)

    def box(self, control: str, label: str, first: Point, last: Point) -> Json:
        """Prompt with a rectangle between two corners."""
        middle = ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2)
        return self.draw("RectangleTool", control, label, [first, middle, last])

    def regions(self) -> list[Json]:
        """id, type, labels and `smart` of the annotation's regions, prompts included."""
        return list(self._browser.run(REGIONS, False))

    def suggestions(self) -> list[Json]:
        """The regions that wait to be accepted, in the same form."""
        return list(self._browser.run(REGIONS, True))

    def accept(self) -> None:
        """Accept all suggestions with the button of the bottom bar."""
        self._click("accept-suggestions-button")
        self._browser.until(lambda: not self.suggestions(), "the suggestions to be accepted")

    def submit(self) -> None:
        """Submit a new annotation; returns once Label Studio has stored it."""
        self._click("submit-button")
        self._browser.until(
            lambda: self._browser.run("return !!window.Htx.annotationStore.selected.pk"),
            "the annotation to be stored",
        )

    def _new_region(self, before: set[str]) -> Json | None:
        new = [region for region in self.regions() if region["id"] not in before]
        return new[-1] if new else None

    def _click(self, name: str) -> None:
        self._browser.until(
            lambda: self._browser.run(
                "const button = document.querySelector(`[data-testid=bottombar-${arguments[0]}]`);"
                "if (!button) return false; button.click(); return true;",
                name,
            ),
            f"the {name} of the bottom bar",
        )
