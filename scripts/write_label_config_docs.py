"""Write the table of options in docs/reference/label-config.md from the options themselves.

    python scripts/write_label_config_docs.py

A test compares the page with the code, so it cannot fall behind.
"""

from pathlib import Path

from backend.labelstudio.options import OPTIONS, Option

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "label-config.md"
BEGIN, END = "<!-- options -->", "<!-- end of options -->"


def page(text: str) -> str:
    """The page with its table made anew; everything else stays."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = "\n".join(_row(option) for option in OPTIONS.values())
    head = "| attribute | on | takes | unless said | meaning |\n| --- | --- | --- | --- | --- |"
    return f"{before}{BEGIN}\n\n{head}\n{rows}\n\n{END}{after}"


def _row(option: Option) -> str:
    takes = option.must.replace("|", "\\|")
    older = f". Older name: `{option.older[0]}`" if option.older else ""
    places = ", ".join({"image": "`Image`"}.get(place, place) for place in option.on)
    about = option.about.replace("|", "\\|")
    return f"| `{option.name}` | {places} | {takes} | {_preset(option)} | {about}{older} |"


def _preset(option: Option) -> str:
    if option.preset is None:
        return "the preset's" if option.name.endswith("threshold") else "–"
    if isinstance(option.preset, bool):
        return str(option.preset).lower()
    return f"{option.preset:.2%}" if isinstance(option.preset, float) else str(option.preset)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
